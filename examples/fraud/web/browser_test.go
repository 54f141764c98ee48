package web

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// start runs all of the application as `make run` does, and gives the address of the pages, the analyst's password and the daemon's process.
func start(t *testing.T) (address, password string, daemon int) {
	t.Helper()
	bin := os.Getenv("PICKET_TEST_BROWSER")
	if bin == "" {
		t.Skip("make test-web runs this: it takes the programs in bin and a browser")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(filepath.Join(bin, "fraud"), "run", "--listen", listen, "--rate", "120", "--customers", "1500", "--picketd", filepath.Join(bin, "picketd"), "--models", "../model")
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Process.Signal(syscall.SIGINT); err != nil {
			t.Error(err)
		}
		if err := c.Wait(); err != nil {
			t.Errorf("the application ends with %v", err)
		}
	})
	said := make(chan int, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if m := regexp.MustCompile(`sign in +analyst, (\S+)`).FindStringSubmatch(lines.Text()); m != nil {
				password = m[1]
			}
			if m := regexp.MustCompile(`daemon +process (\d+)`).FindStringSubmatch(lines.Text()); m != nil {
				pid, _ := strconv.Atoi(m[1]) // it is digits
				said <- pid
			}
		}
	}()
	select {
	case daemon = <-said:
		return "https://" + listen, password, daemon
	case <-time.After(time.Minute):
		t.Fatal("the application does not say that it answers")
		return "", "", 0
	}
}

// browser is a tab. What a page says to its console, what a policy forbids and what fails is a failure of the test.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex
	problems []string
	expected string // part of a message that is expected now
}

func open(t *testing.T, base string) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.IgnoreCertErrors)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, base: base}
	err := chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventConsoleAPICalled:
			b.problem("the console has " + string(e.Type))
		case *runtime.EventExceptionThrown:
			b.problem("an exception: " + e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError || e.Entry.Source == log.EntrySourceSecurity {
				b.problem(string(e.Entry.Source) + ": " + e.Entry.Text)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.problems {
			t.Error(p)
		}
	})
	return b
}

func (b *browser) problem(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.expected == "" || !strings.Contains(text, b.expected) {
		b.problems = append(b.problems, text)
	}
}

func (b *browser) expect(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = text
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// is asks the page.
func (b *browser) is(condition string) bool {
	b.t.Helper()
	yes, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("!!("+condition+")"))
	if err != nil {
		b.t.Fatalf("%s: %v", condition, err)
	}
	return yes
}

// until waits for something on the page.
func (b *browser) until(what, condition string) {
	b.t.Helper()
	for end := time.Now().Add(90 * time.Second); !b.is(condition); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
			b.t.Fatalf("it did not happen that %s; the page says:\n%s", what, text)
		}
	}
}

func (b *browser) text(selector string) string {
	b.t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector)))
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.until("there is "+selector, fmt.Sprintf("document.querySelector(%q)", selector))
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

// shot keeps a picture where the environment asks for it.
func (b *browser) shot(name string) {
	dir := os.Getenv("PICKET_TEST_SHOTS")
	if dir == "" {
		return
	}
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// readme makes the picture for the README of the page that is shown, in at most 256 colours, when some seconds have gone by.
func (b *browser) readme(path string) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(1180, 800))
	time.Sleep(12 * time.Second)
	shot, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	whole, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		b.t.Fatal(err)
	}
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&out, inFewColours(whole)); err != nil {
		b.t.Fatal(err)
	}
	const most = 150 << 10
	if out.Len() > most {
		b.t.Fatalf("the picture has %d bytes, more than %d", out.Len(), most)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil { //nolint:gosec // it is published
		b.t.Fatal(err)
	}
	b.do(chromedp.EmulateViewport(1360, 900))
}

// inFewColours is a picture in the 256 of its colours that most of it has; others become the nearest of these.
func inFewColours(from image.Image) image.Image {
	count := map[color.Color]int{}
	bounds := from.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[from.At(x, y)]++
		}
	}
	palette := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int { return count[b] - count[a] })
	few := image.NewPaletted(bounds, palette[:min(256, len(palette))])
	draw.Draw(few, bounds, from, bounds.Min, draw.Src)
	return few
}

func (b *browser) colours(scheme string) {
	b.do(func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return chromedp.Void{}, err
	})
}

// pay fills the terminal's form in and sends it, until the verdict is one of a kind; what is sent becomes more unusual each time.
func (b *browser) pay(story, verdict string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base + "/#/terminal"))
	for range 30 {
		b.until("the form is there", `document.querySelector('.terminal form')`)
		if _, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](fmt.Sprintf(`[...document.querySelectorAll('.terminal .choice button')].find(b => b.innerText === %q).click(), true`, story))); err != nil {
			b.t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond) // the sample comes
		b.click(".terminal form button.primary")
		b.until("there is a decision", `document.querySelector('.receipt .stamp')`)
		if strings.HasPrefix(b.text(".receipt .stamp"), verdict) {
			return
		}
		if b.is(`document.querySelector('dialog[open]')`) {
			b.do(chromedp.KeyEvent(kb.Escape))
			b.until("the dialog is closed", `!document.querySelector('dialog[open]')`)
		}
		b.do(chromedp.Navigate("about:blank"), chromedp.Navigate(b.base+"/#/terminal"))
	}
	b.t.Fatalf("nobody of 30 got the verdict %s for %s", verdict, story)
}

// openExplained opens denied transactions from the list, the newest first, until one says why the model denied it.
// On a busy machine some are decided by rules, which give one reason, and some have a score in time whose reasons were late.
func (b *browser) openExplained() {
	b.t.Helper()
	opened := map[string]bool{}
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		denied, err := chromedp.Run(b.ctx, chromedp.Evaluate[[]string](`[...document.querySelectorAll('.feed tbody tr')].filter(r => r.querySelector('.verdict.deny') && !r.innerText.includes('Rules decided')).map(r => r.querySelector('a').hash)`))
		if err != nil {
			b.t.Fatal(err)
		}
		i := slices.IndexFunc(denied, func(page string) bool { return !opened[page] })
		if i < 0 {
			continue
		}
		opened[denied[i]] = true
		b.do(chromedp.Navigate(b.base + "/" + denied[i]))
		b.until("its page is there", `document.querySelector('.transaction .profile')`)
		if b.is(`document.querySelectorAll('.transaction .reasons li').length > 2`) {
			return
		}
		b.do(chromedp.Navigate(b.base + "/#/live"))
		b.click(".feed .choice button:nth-child(4)")
	}
	b.t.Fatal("none of those that the model denied in 90 seconds says why")
}

// TestBrowser walks through the pages as an analyst does, in one session of Chromium.
func TestBrowser(t *testing.T) {
	base, password, daemon := start(t)
	b := open(t, base)
	b.do(chromedp.EmulateViewport(1360, 900), chromedp.Navigate(base+"/"))

	b.until("the login is there", `document.activeElement?.name === 'user'`)
	b.shot("login")
	b.expect("401") // the browser's own words about a refused login, and about the session that there is not
	b.mu.Lock()
	for i := len(b.problems) - 1; i >= 0; i-- {
		if strings.Contains(b.problems[i], "401") {
			b.problems = append(b.problems[:i], b.problems[i+1:]...)
		}
	}
	b.mu.Unlock()
	b.do(chromedp.KeyEvent("analyst"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent("not the password"), chromedp.KeyEvent(kb.Enter))
	b.until("a wrong password is refused", `document.querySelector('.login .error')?.innerText.includes('wrong')`)
	b.do(chromedp.KeyEvent(password), chromedp.KeyEvent(kb.Enter)) // the keyboard is in the field again
	b.until("decisions are shown", `document.querySelectorAll('.feed tbody tr').length > 3`)
	b.expect("")
	b.until("the stream is live", `document.querySelector('.connection.live')`)
	b.until("the last minute is drawn in the colours of verdicts", `(c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v, i, all) => i % 4 === 1 && all[i + 2] > 200 && v - all[i - 1] > 60))(document.querySelector('canvas.timeline'))`)
	b.until("statistics come", `parseFloat(document.querySelector('.figure strong').innerText) > 1`)
	b.shot("live")
	if path := os.Getenv("PICKET_README_PICTURE"); path != "" {
		b.readme(path)
	}

	t.Log("approve")
	b.pay("A usual purchase", "Approve")
	b.shot("approve")

	t.Log("challenge")
	b.pay("A large amount", "2nd factor")
	b.until("the customer's code is asked for", `document.querySelector('dialog[open]') && document.activeElement.id === 'code'`)
	b.do(chromedp.KeyEvent("000000"), chromedp.KeyEvent(kb.Enter))
	b.until("a wrong code is refused", `document.querySelector('dialog .error').innerText !== '' && document.querySelector('#code-left').innerText.startsWith('2 attempts')`)
	b.shot("challenge")
	b.click(".authenticator button")
	b.until("the authenticator shows a code", `document.querySelector('.code-shown')`)
	b.click("#code")
	b.do(chromedp.KeyEvent(b.text(".code-shown")), chromedp.KeyEvent(kb.Enter))
	b.until("the right code approves", `!document.querySelector('dialog[open]') && document.querySelector('.receipt .stamp.approved')`)

	t.Log("deny, with reasons, and the ground truth")
	b.do(chromedp.Navigate(base + "/#/live"))
	b.click(".feed .choice button:nth-child(4)")
	b.until("there are denied ones", `document.querySelectorAll('.feed tbody .verdict.deny').length > 0 && !document.querySelector('.feed tbody .verdict.approve')`)
	b.openExplained()
	b.until("there is a profile of 25 features or more", `document.querySelectorAll('.profile dl > div').length >= 25`)
	b.shot("transaction")
	b.until("the transaction says what Picket calls it", `[...document.querySelectorAll('.facts dd')].some(d => /^[0-9a-f]{32}-[0-9]+$/.test(d.innerText))`)
	b.click(".truth button.deny")
	b.until("the ground truth is recorded", `document.querySelector('.truth button.deny').ariaPressed === 'true' && document.body.innerText.includes('by analyst')`)

	b.do(chromedp.Navigate(base + "/#/live"))
	b.click(".feed .choice button:nth-child(2)")
	b.until("there are approved ones, and earlier ones are offered", `document.querySelectorAll('.feed tbody tr').length === 50 && document.querySelector('.feed .more button')`)
	b.click(".feed .more button")
	b.until("earlier ones are shown", `document.querySelectorAll('.feed tbody tr').length > 50`)
	id := b.text(".feed tbody tr:nth-child(51) a .visually-hidden")
	id = strings.TrimSpace(id[strings.LastIndexByte(id, ' ')+1:])
	b.click(".find input")
	b.do(chromedp.KeyEvent(id), chromedp.KeyEvent(kb.Enter))
	b.until("a transaction is found by its id", fmt.Sprintf(`document.querySelector('.transaction header .mono')?.innerText === %q`, id))

	t.Log("cut the line")
	b.do(chromedp.Navigate(base + "/#/site"))
	b.until("Picket is told the outcomes", `Number(document.querySelector('.counters > div:nth-child(5) dd')?.innerText.replaceAll(',', '')) > 0`)
	b.until("capture is on, and something went home", `Number(document.querySelector('.counters > div:nth-child(2) dd')?.innerText.replaceAll(',', '')) > 0`)
	b.until("nothing that was captured is dropped, outcomes neither", `document.querySelector('.counters > div:nth-child(4) dd')?.innerText.trim() === '0'`)
	b.click(".switch")
	b.until("the line is cut", `document.querySelector('.switch').ariaChecked === 'false'`)
	const number = `Number(document.querySelector('.counters > div:nth-child(%d) dd').innerText.split(' ')[0].replaceAll(',', ''))`
	b.until("the spool grows while it is", fmt.Sprintf(number, 1)+" > 300")
	b.until("transactions are still answered", `parseFloat(document.querySelector('.models p:last-of-type').innerText) > 1`)
	b.shot("cut")
	b.click(".switch")
	b.until("the spool drains when it is back", fmt.Sprintf(number, 1)+" < 200")

	t.Log("swap the model")
	b.click(".models button")
	b.until("the other version scores", `document.querySelector('.said').innerText.startsWith('Version 1 scores now')`)
	b.until("it is counted", `Number(document.querySelector('.models tbody tr:first-child td:nth-last-child(2)').innerText.replaceAll(',', '')) > 0`)
	b.shot("site")

	t.Log("kill the daemon")
	b.do(chromedp.Navigate(base + "/#/live"))
	b.until("the page is there", `document.querySelector('.feed')`)
	const banner = `document.querySelector('main > [role=status] .banner')`
	b.until("nothing is wrong", "!"+banner)
	if err := syscall.Kill(daemon, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.until("the page says that Picket does not answer", banner+`?.innerText.includes('Rules decide')`)
	b.until("rules decide", `[...document.querySelectorAll('.feed tbody tr')].some(r => r.innerText.includes('Rules decided'))`)
	b.shot("rules")
	b.until("the daemon is back, and so are scores", "!"+banner+` && !document.querySelector('.feed tbody tr')?.innerText.includes('Rules decided')`)

	t.Log("dark, and on a telephone")
	b.colours("dark")
	for _, nowhere := range []string{"transactions/%E0%A4%A", "transactions/", "..%2f", "\"><img src=x onerror=alert(1)>"} {
		b.do(chromedp.Navigate("about:blank"), chromedp.Navigate(base+"/#/"+nowhere))
		b.until("there is no page "+nowhere, `document.querySelector('main .empty h1')?.innerText === 'There is no such page'`)
	}
	b.shot("nowhere")
	b.do(chromedp.Navigate("about:blank"), chromedp.Navigate(base+"/#/live"))
	b.until("there are decisions", `document.querySelector('.feed tbody a')`)
	b.until("the paper is dark", `getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).every(c => c < 60)`)
	b.shot("dark")
	for _, page := range []string{"terminal", "site", "transactions/" + id} {
		b.do(chromedp.Navigate(base + "/#/" + page))
		b.until(page+" is there", `document.querySelector('main .card')`)
		b.shot("dark-" + page[:4])
	}
	b.do(chromedp.EmulateViewport(360, 740, chromedp.EmulateMobile))
	for _, page := range []string{"live", "terminal", "site", "transactions/" + id} {
		b.do(chromedp.Navigate(base + "/#/" + page))
		b.until(page+" is there", `document.querySelector('main .card')`)
		wide, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll *') && !e.closest('.visually-hidden') && e.getBoundingClientRect().right > 361).map(e => e.tagName + '.' + e.className).join(' ')`))
		if err != nil {
			t.Fatal(err)
		}
		if wide != "" {
			t.Errorf("%s is wider than a telephone: %s", page, wide)
		}
		b.until(page+" is no wider than a telephone", `document.documentElement.scrollWidth <= 360`)
		b.shot("phone-" + page[:4])
	}

	t.Log("by keyboard alone")
	b.colours("light")
	b.do(chromedp.EmulateViewport(1360, 900), chromedp.Navigate("about:blank"), chromedp.Navigate(base+"/#/live"))
	b.until("the page is there", `document.querySelector('.feed')`)
	b.do(chromedp.KeyEvent(kb.Tab))
	b.until("the first stop skips the menu", `document.activeElement.className === 'skip'`)
	b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	b.until("the menu leads to the terminal", `location.hash === '#/terminal' && document.querySelector('.terminal')`)

	b.click(".bar > button:last-child")
	b.until("who signs out is asked to sign in", `document.querySelector('.login')`)
}
