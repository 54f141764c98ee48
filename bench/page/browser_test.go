package page

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/picket-ml/picket/bench/roofline"
)

// TestBrowser opens the page in a real browser: its policy lets its own style and script run and nothing complains, nothing is asked of a
// network, lines can be hidden and colours changed. Pictures are kept in $PICKET_TEST_SHOTS.
func TestBrowser(t *testing.T) {
	if os.Getenv("PICKET_TEST_BROWSER") == "" {
		t.Skip("make test-bench-page runs this: it takes a browser")
	}
	path := filepath.Join(t.TempDir(), "report.html")
	html := written(t, Input{
		Results: []Named{{"before.json", parsed(t, example(t))}, {"after.json", parsed(t, example(t))}}, Rooflines: []*roofline.Report{roof()},
	})
	if err := os.WriteFile(path, []byte(html), 0o600); err != nil {
		t.Fatal(err)
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox)...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	var (
		mu       sync.Mutex
		problems []string
	)
	problem := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		problems = append(problems, text)
	}
	err := chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventConsoleAPICalled:
			problem("the console has " + string(e.Type))
		case *runtime.EventExceptionThrown:
			problem("an exception: " + e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			problem(string(e.Entry.Source) + ": " + e.Entry.Text)
		case *network.EventRequestWillBeSent:
			if e.Request.URL != "file://"+path {
				problem("it asks for " + e.Request.URL)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	do := func(steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			t.Fatal(err)
		}
	}
	is := func(what, condition string) {
		t.Helper()
		yes, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+condition+")"))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !yes {
			t.Errorf("it is not so that %s", what)
		}
	}
	scheme := func(name string) {
		do(func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
			_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
			})
			return chromedp.Void{}, err
		})
	}
	do(chromedp.Navigate("file://" + path))
	is("the style is there", `getComputedStyle(document.querySelector("header")).position === "sticky"`)
	is("the script has run", `!document.getElementById("theme").hidden`)
	is("no drawing leaves its frame", `[...document.querySelectorAll(".chart>svg")].every(s => { const b = s.getBBox(); return b.x > -2 && b.y > -2 && b.x + b.width < 722 && b.y + b.height < 342; })`)
	is("a line is drawn", `document.querySelector(".group g.series path").getTotalLength() > 100`)
	do(chromedp.Click(chromedp.CSS(".group .legend button")))
	is("a click hides a line", `document.querySelectorAll("g.series.off").length === 1`)
	do(chromedp.Click(chromedp.CSS(".group .legend button")))
	is("and another shows it", `document.querySelectorAll("g.series.off").length === 0`)
	is("a point says what it is", `(() => { const p = document.querySelector(".chart circle"); p.dispatchEvent(new Event("pointerenter")); return p.closest(".chart").querySelector(".readout").textContent.length > 10; })()`)
	const light = `"rgb(251, 250, 247)"`
	for _, colours := range []string{"light", "dark"} {
		scheme(colours)
		comparison := " === " + light
		if colours == "dark" {
			comparison = " !== " + light
		}
		is("the colours are "+colours, "getComputedStyle(document.body).backgroundColor"+comparison)
		if dir := os.Getenv("PICKET_TEST_SHOTS"); dir != "" {
			picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "report-"+colours+".png"), picture, 0o600)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
	do(chromedp.Click(chromedp.CSS("#theme")))
	is("the button makes them light", "getComputedStyle(document.body).backgroundColor === "+light)
	mu.Lock()
	defer mu.Unlock()
	for _, p := range problems {
		t.Error(p)
	}
}
