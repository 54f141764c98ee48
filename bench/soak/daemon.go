package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startPatience = 60 * time.Second
	stopPatience  = 30 * time.Second
)

// daemon is a picketd of this program's own.
type daemon struct {
	dir   string // of its sockets
	tcp   string // its address for the Open Inference Protocol
	pid   int
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed when it has ended
	http  *http.Client  // over oip.sock, with no connection that stays
}

// start runs picketd in a new folder until it is ready. more is YAML that is added to its configuration.
func (s *soak) start(ctx context.Context, name, more string, env ...string) (_ *daemon, err error) {
	dir := filepath.Join(s.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a folder for sockets: %w", err)
	}
	d := &daemon{dir: dir, log: filepath.Join(dir, "picketd.log"), ended: make(chan struct{})}
	if d.tcp, err = freePort(); err != nil {
		return nil, err
	}
	d.http = &http.Client{Timeout: httpPatience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.socket("oip"))
	}}}
	config := filepath.Join(dir, "picketd.yaml")
	text := fmt.Sprintf("sockets: {dir: %q, oip: {control: true}}\ntcp: {listen: [%q]}\nunsigned: true\nhost: {imds: false}\nlimits: {max_connections: 4096}\n%s", dir, d.tcp, more)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("writing a configuration: %w", err)
	}
	log, err := os.Create(d.log)
	if err != nil {
		return nil, fmt.Errorf("making a log: %w", err)
	}
	defer log.Close()
	d.cmd = exec.Command(s.picketd, "--config", config)
	d.cmd.Env = append(os.Environ(), env...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting picketd: %w", err)
	}
	d.pid = d.cmd.Process.Pid
	go func() {
		_ = d.cmd.Wait() // how it ended is asked of the command
		close(d.ended)
	}()
	for end := time.Now().Add(startPatience); ; {
		if err := d.ask(ctx, http.MethodGet, "/readyz", "", nil); err == nil {
			return d, nil
		} else if time.Now().After(end) || !d.runs() || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("starting picketd: it does not answer: %w\n%s", err, d.said()), d.kill())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// freePort is an address that nobody listens on now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func (d *daemon) socket(name string) string { return filepath.Join(d.dir, name+".sock") }

// runs tells whether the daemon has not ended.
func (d *daemon) runs() bool {
	select {
	case <-d.ended:
		return false
	default:
		return true
	}
}

// said is the end of the daemon's log, or where it says why it ended.
func (d *daemon) said() string {
	const most = 2 << 10
	text, err := os.ReadFile(d.log)
	if err != nil {
		return fmt.Sprintf("its log cannot be read: %v", err)
	}
	if at := lastWords.FindIndex(text); at != nil {
		return "its log says:\n" + string(text[max(0, at[0]-most):min(len(text), at[0]+most)])
	}
	return "its log ends with:\n" + string(text[max(0, len(text)-most):])
}

// lastWords begin what the runtime writes of a process that it ends.
var lastWords = regexp.MustCompile(`(?m)^(panic: |fatal error: |SIG[A-Z]+: |terminate called |unexpected fault address )`)

// ask makes a request over HTTP on oip.sock, on a connection of its own, and decodes nothing: answer gets the body if it is not nil.
func (d *daemon) ask(ctx context.Context, method, path, body string, answer *[]byte) error {
	code, text, err := d.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("%s is answered with %d %s: %s", path, code, http.StatusText(code), text)
	}
	if answer != nil {
		*answer = text
	}
	return nil
}

// request is ask for who wants to see each answer.
func (d *daemon) request(ctx context.Context, method, path, body string) (code int, text []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://picket"+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	reply, err := d.http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer reply.Body.Close()
	if text, err = io.ReadAll(reply.Body); err != nil {
		return 0, nil, fmt.Errorf("reading the answer to %s: %w", path, err)
	}
	return reply.StatusCode, text, nil
}

// load loads the model that the configuration declares under the name, or the folder in its place.
func (d *daemon) load(ctx context.Context, name, folder string) error {
	body := "{}"
	if folder != "" {
		body = fmt.Sprintf(`{"parameters":{"url":%q}}`, folder)
	}
	return d.ask(ctx, http.MethodPost, "/v2/repository/models/"+name+"/load", body, nil)
}

func (d *daemon) unload(ctx context.Context, name string) error {
	return d.ask(ctx, http.MethodPost, "/v2/repository/models/"+name+"/unload", "{}", nil)
}

// stop ends the daemon as its service manager would, and fails if it does not end well.
func (d *daemon) stop() error {
	if !d.runs() {
		return fmt.Errorf("picketd ended by itself: %v\n%s", d.cmd.ProcessState, d.said())
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping picketd: %w", err)
	}
	select {
	case <-d.ended:
	case <-time.After(stopPatience):
		return errors.Join(fmt.Errorf("stopping picketd: it goes on after %v\n%s", stopPatience, d.said()), d.kill())
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("stopping picketd: it ended with %d\n%s", code, d.said())
	}
	return nil
}

// checkEnd stops the daemon and judges that it served until then.
func (r *report) checkEnd(d *daemon) {
	if err := d.stop(); err != nil {
		r.fail("the daemon serves to the end", err.Error())
		return
	}
	r.check(true, "the daemon serves to the end", "it stopped when it was asked to")
}

// kill ends a daemon that is of no use any more.
func (d *daemon) kill() error {
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing picketd: %w", err)
	}
	<-d.ended
	return nil
}

// usage is what a process holds.
type usage struct {
	descriptors int
	threads     int
	goroutines  int
	files       int   // mappings that are not anonymous memory
	shared      int   // of those, what clients share: System V segments, POSIX objects, rings
	resident    int64 // bytes
}

// observe looks at the daemon. The connection that asks for the number of goroutines is in none of the figures but that one, each time alike.
func (d *daemon) observe(ctx context.Context) (u usage, err error) {
	var metrics []byte
	if err := d.ask(ctx, http.MethodGet, "/metrics", "", &metrics); err != nil {
		return u, err
	}
	if u.goroutines, err = metric(metrics, "go_goroutines"); err != nil {
		return u, err
	}
	if u.descriptors, err = d.descriptors(); err != nil {
		return u, err
	}
	if u.resident, err = d.resident(); err != nil {
		return u, err
	}
	threads, err := os.ReadDir(d.proc("task"))
	if err != nil {
		return u, fmt.Errorf("counting threads: %w", err)
	}
	u.threads = len(threads)
	u.files, u.shared, err = d.mappings()
	return u, err
}

// metric reads a metric without labels.
func metric(page []byte, name string) (int, error) {
	for line := range bytes.Lines(page) {
		if value, ok := bytes.CutPrefix(line, []byte(name+" ")); ok {
			return strconv.Atoi(string(bytes.TrimSpace(value)))
		}
	}
	return 0, fmt.Errorf("the daemon's metrics have no %s", name)
}

func (d *daemon) proc(name string) string {
	return filepath.Join("/proc", strconv.Itoa(d.pid), name)
}

func (d *daemon) descriptors() (int, error) {
	open, err := os.ReadDir(d.proc("fd"))
	if err != nil {
		return 0, fmt.Errorf("counting descriptors: %w", err)
	}
	return len(open), nil
}

// resident is the memory that the daemon takes, in bytes: its own and what it shares
// with clients. Pages of its program and of libraries do not count: they come as more
// of the code is run, whoever asks for it, and go where memory is wanted.
func (d *daemon) resident() (int64, error) {
	text, err := os.ReadFile(d.proc("status"))
	if err != nil {
		return 0, fmt.Errorf("looking at the daemon's memory: %w", err)
	}
	var sum, found int64
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "RssAnon" && name != "RssShmem" {
			continue
		}
		var kib int64
		if _, err := fmt.Sscanf(value, "%d kB", &kib); err != nil {
			return 0, fmt.Errorf("looking at the daemon's memory: %w", err)
		}
		sum, found = sum+kib<<10, found+1
	}
	if found != 2 {
		return 0, errors.New("looking at the daemon's memory: the kernel does not tell it")
	}
	return sum, nil
}

// mappings counts the daemon's mappings that are not anonymous, and those of memory that clients have made.
func (d *daemon) mappings() (files, shared int, err error) {
	maps, err := os.Open(d.proc("maps"))
	if err != nil {
		return 0, 0, fmt.Errorf("counting mappings: %w", err)
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || strings.HasPrefix(fields[5], "[") {
			continue
		}
		files++
		for _, made := range []string{"/SYSV", "/dev/shm/", "/memfd:picket-lane"} {
			if strings.HasPrefix(fields[5], made) {
				shared++
			}
		}
	}
	return files, shared, lines.Err()
}

// settles waits for the daemon to hold no more than before, for as long as patience, and gives what it holds at last.
func (d *daemon) settles(ctx context.Context, before usage, patience time.Duration) (usage, error) {
	for end := time.Now().Add(patience); ; {
		now, err := d.observe(ctx)
		if err != nil || time.Now().After(end) || (now.descriptors <= before.descriptors && now.goroutines <= before.goroutines && now.shared <= before.shared && now.files <= before.files) {
			return now, err
		}
		select {
		case <-ctx.Done():
			return now, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// checkReturned judges that what was taken was given back.
func (r *report) checkReturned(before, after usage) {
	r.check(after.descriptors <= before.descriptors, "descriptors return", "%d before, %d after", before.descriptors, after.descriptors)
	r.check(after.goroutines <= before.goroutines, "goroutines return", "%d before, %d after", before.goroutines, after.goroutines)
	r.check(after.files <= before.files, "mappings return", "%d before, %d after", before.files, after.files)
	// The runtime keeps the threads that blocking calls needed at their busiest, and may start one at any time.
	const busiest = 8
	r.check(after.threads <= before.threads+busiest, "threads stay bounded", "%d before, %d after", before.threads, after.threads)
}
