//go:build cgo

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	promodel "github.com/prometheus/common/model"

	"github.com/picket-ml/picket/internal/testkit"
)

// serveSums starts a daemon with the fixture model as "sums" and returns rows for it.
func serveSums(t *testing.T) (sockets, input string, rows int) {
	t.Helper()
	m, dir := compileFixture(t, trained)
	sockets, _ = startDaemon(t, "--unsigned", "--model", "sums="+dir)
	return sockets, rowsAs("csv", testkit.Rows(m.Rows, m.Features), m.Features), m.Rows
}

// startTop starts picket top and returns what it prints, and a function that ends it with the signal and gives its exit
// code.
func startTop(t *testing.T, args ...string) (stdout *bufio.Reader, end func(os.Signal) int) {
	t.Helper()
	command := process(t.Context(), append([]string{"top"}, args...)...)
	pipe, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return bufio.NewReader(pipe), func(s os.Signal) int {
		if err := command.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, pipe) // a pipe that is closed early would end it in another way
		_ = command.Wait()               // the exit code says it
		return command.ProcessState.ExitCode()
	}
}

// TestTopCountsWhatIsPredicted: rates times intervals are the rows and requests that were asked for, none twice and none
// left out.
func TestTopCountsWhatIsPredicted(t *testing.T) {
	sockets, input, rows := serveSums(t)
	stdout, end := startTop(t, "--json", "--interval", "100ms", "--sockets", sockets)
	decoder := json.NewDecoder(stdout)
	read := func() (view, modelView) {
		var v view
		if err := decoder.Decode(&v); err != nil {
			t.Fatal(err)
		}
		if len(v.Models) != 1 || v.Models[0].Name != "sums" || v.Models[0].Backend == "" || v.Interval <= 0 || v.Daemon.Socket != filepath.Join(sockets, "oip.sock") {
			t.Fatalf("a view of one model is %+v", v)
		}
		return v, v.Models[0]
	}
	if _, idle := read(); idle.Requests != 0 || idle.RowsPerRun != nil || idle.Phases["run"].P50 != nil || idle.QueueLimit != 1024 {
		t.Errorf("while nothing is asked: %+v", idle)
	}
	const batch = 10
	for _, protocol := range []string{"agent", "lane", "oip"} {
		ok(t, input, "predict", "sums", "--sockets", sockets, "--protocol", protocol, "--batch", "10")
	}
	wantRows, wantRequests := 3*float64(rows), 3*math.Ceil(float64(rows)/batch)
	var gotRows, gotRequests, gotRuns float64
	for math.Round(gotRows) < wantRows {
		v, m := read()
		gotRows += m.Rows * v.Interval
		gotRequests += m.Outcomes["ok"] * v.Interval
		gotRuns += m.Phases["run"].Rate * v.Interval
		if m.Errors != 0 || m.Refused != 0 || m.Requests < m.Outcomes["ok"] {
			t.Errorf("%+v", m)
		}
		p := m.Phases["run"]
		if m.Runs > 0 && (p.P50 == nil || p.P99 == nil || *p.P50 <= 0 || *p.P50 > *p.P99 || p.Mean == nil || *p.Mean <= 0) {
			t.Errorf("%v runs took %+v", m.Runs, p)
		}
		if m.RowsPerRun != nil && (*m.RowsPerRun < 1 || *m.RowsPerRun > 10*batch) {
			t.Errorf("%v rows a run", *m.RowsPerRun)
		}
	}
	// What was counted as rows is counted as requests and runs a moment before or after.
	for math.Round(gotRequests) < wantRequests {
		v, m := read()
		gotRequests += m.Outcomes["ok"] * v.Interval
	}
	if math.Abs(gotRows-wantRows) > 1e-6*wantRows || math.Abs(gotRequests-wantRequests) > 1e-6*wantRequests || gotRuns < 1 || gotRuns > wantRequests+0.5 {
		t.Errorf("%v rows in %v requests and %v runs, want %v in %v", gotRows, gotRequests, gotRuns, wantRows, wantRequests)
	}
	if code := end(os.Interrupt); code != exitDone {
		t.Errorf("after Ctrl-C: exit %d", code)
	}
}

func TestTopInAPipe(t *testing.T) {
	sockets, _, _ := serveSums(t)
	text := ok(t, "", "top", "--once", "--interval", "50ms", "--sockets", sockets)
	for _, part := range []string{sockets, "MODEL", "BACKEND", "REQ/S", "TOTAL P50/P99", "\nsums "} {
		if !strings.Contains(text, part) {
			t.Errorf("the table does not say %q: %s", part, text)
		}
	}
	if strings.ContainsRune(text, '\x1b') {
		t.Errorf("a pipe gets what only a terminal obeys: %q", text)
	}
	stdout, end := startTop(t, "--interval", "50ms", "--sockets", sockets)
	for tables := 0; tables < 3; {
		line, err := stdout.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "sums ") {
			tables++
		}
	}
	if code := end(syscall.SIGTERM); code != exitDone {
		t.Errorf("after SIGTERM: exit %d", code)
	}
	if text := ok(t, "", "unload", "sums", "--sockets", sockets); text == "" {
		t.Error("nothing was unloaded")
	}
	if text := ok(t, "", "top", "--once", "--interval", "50ms", "--sockets", sockets); !strings.Contains(text, "no model is loaded") {
		t.Error(text)
	}
	if text := ok(t, "", "top", "--once", "--json", "--interval", "50ms", "--sockets", sockets); !strings.Contains(text, `"models":[]`) {
		t.Error(text)
	}
}

func TestTopOfADaemonThatEnds(t *testing.T) {
	sockets, stop := startDaemon(t)
	command := process(t.Context(), "top", "--interval", "50ms", "--sockets", sockets)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := io.Copy(io.Discard, lines); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // the exit code says it
	fails(t, result{stderr: stderr.String(), code: command.ProcessState.ExitCode()}, exitUnreachable, "reading the metrics", filepath.Join(sockets, "oip.sock"))
}

func TestTopErrors(t *testing.T) {
	fails(t, picket(t, "", "top", "--interval", "1ms"), exitUsage, "--interval 1ms", "see picket top --help")
	fails(t, picket(t, "", "top", "x"), exitUsage, "see picket top --help")
	empty := t.TempDir()
	for _, args := range [][]string{{}, {"--once"}, {"--json"}} {
		fails(t, picket(t, "", append([]string{"top", "--sockets", empty}, args...)...), exitUnreachable, "there is no socket "+filepath.Join(empty, "oip.sock"))
	}
}

// Another program on the socket is not taken for a daemon, and what it says is not obeyed by a terminal.
func TestTopOfAnotherProgram(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"without metrics": {404, "", "has no metrics"},
		"busy":            {503, "Limit of concurrent requests\x1b[2J reached", "Limit of concurrent requests?[2J reached"},
		"with a page":     {200, "<html>\n<body>\x1b[2J", "does not answer as picketd does"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "oip.sock"), Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			})}
			served := make(chan error, 1)
			go func() { served <- server.Serve(l) }()
			t.Cleanup(func() {
				server.Close()
				if err := <-served; !errors.Is(err, http.ErrServerClosed) {
					t.Error(err)
				}
			})
			r := picket(t, "", "top", "--once", "--sockets", dir)
			fails(t, r, exitFailed, "reading the metrics", test.want)
			if strings.ContainsRune(r.stderr, '\x1b') {
				t.Errorf("%q", r.stderr)
			}
		})
	}
}

// sampleOf reads a text as top reads the daemon's.
func sampleOf(text string, at time.Time) (*sample, error) {
	parser := expfmt.NewTextParser(promodel.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	return newSample(at, families), nil
}

const oneModel = `# TYPE picket_model_info gauge
picket_model_info{backend="forest",model="m",variant="avx2",version="1"} 1
# TYPE picket_model_requests_total counter
picket_model_requests_total{model="m",outcome="ok"} 100
picket_model_requests_total{model="m",outcome="busy"} 7
# TYPE picket_model_rows_total counter
picket_model_rows_total{model="m"} 100
# TYPE picket_model_duration_seconds histogram
picket_model_duration_seconds_bucket{model="m",phase="run",le="1e-06"} 0
picket_model_duration_seconds_bucket{model="m",phase="run",le="2e-06"} 50
picket_model_duration_seconds_bucket{model="m",phase="run",le="4e-06"} 98
picket_model_duration_seconds_bucket{model="m",phase="run",le="+Inf"} 100
picket_model_duration_seconds_sum{model="m",phase="run"} 0.0003
picket_model_duration_seconds_count{model="m",phase="run"} 100
`

func TestTopViewsAreDifferences(t *testing.T) {
	at := time.Now()
	first, err := sampleOf(oneModel, at)
	if err != nil {
		t.Fatal(err)
	}
	more := strings.NewReplacer(`"ok"} 100`, `"ok"} 150`, `"busy"} 7`, `"busy"} 17`, `le="4e-06"} 98`, `le="4e-06"} 99`, `le="+Inf"} 100`, `le="+Inf"} 101`, `count{model="m",phase="run"} 100`, `count{model="m",phase="run"} 101`)
	second, err := sampleOf(more.Replace(oneModel), at.Add(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	m := newView(first, second).Models[0]
	if m.Requests != 30 || m.Outcomes["ok"] != 25 || m.Refused != 5 || m.Errors != 0 || m.Rows != 0 {
		t.Errorf("%+v", m)
	}
	// One run came, of 2 to 4 µs.
	if p := m.Phases["run"]; p.Rate != 0.5 || p.P50 == nil || math.Abs(*p.P50-3e-6) > 1e-12 || *p.P99 > 4e-6 {
		t.Errorf("%+v", p)
	}
	// Another model has taken the place of the first: all that it counted is new.
	third, err := sampleOf(oneModel, at.Add(4*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	m = newView(second, third).Models[0]
	if m.Outcomes["ok"] != 50 || m.Rows != 50 {
		t.Errorf("after a replacement: %+v", m)
	}
	p := m.Phases["run"]
	if math.Abs(*p.P50-2e-6) > 1e-12 || *p.P99 != 4e-6 || math.Abs(*p.Mean-3e-6) > 1e-12 {
		t.Errorf("p50 %v, p99 %v, mean %v", *p.P50, *p.P99, *p.Mean)
	}
	if v := newView(nil, first); len(v.Models) != 1 || v.Models[0].Requests != 0 || !v.first {
		t.Errorf("the first view is %+v", v)
	}
}

// TestTopShowsGPUs: each has a line with what is known of it, one that is slowed down or out of use stands out, and JSON has all.
func TestTopShowsGPUs(t *testing.T) {
	const a, b, c = "GPU-5f2c1e0a-1111-2222-3333-444444444444", "GPU-6a000000-1111-2222-3333-444444444444", "MIG-7b000000-1111-2222-3333-444444444444"
	text := strings.Builder{}
	text.WriteString(oneModel)
	for _, m := range []struct {
		name, kind string
		of         map[string]float64
		more       string
	}{
		{"picket_model_gpu", "gauge", map[string]float64{a: 1}, `,model="m"`},
		{"picket_gpu_in_use", "gauge", map[string]float64{a: 1, b: 0, c: 1}, ""},
		{"picket_gpu_models", "gauge", map[string]float64{a: 1, b: 2, c: 0}, ""},
		{"picket_gpu_sick", "gauge", map[string]float64{a: 0, b: 1}, ""},
		{"picket_gpu_load_ratio", "gauge", map[string]float64{a: 0.374}, ""},
		{"picket_gpu_memory_used_bytes", "gauge", map[string]float64{a: 3.5e9}, ""},
		{"picket_gpu_memory_bytes", "gauge", map[string]float64{a: 1.6106e10}, ""},
		{"picket_gpu_temperature_celsius", "gauge", map[string]float64{a: 61}, ""},
		{"picket_gpu_power_watts", "gauge", map[string]float64{a: 69.7}, ""},
		{"picket_gpu_throttled", "gauge", map[string]float64{a: 1}, `,reason="hardware_thermal"`},
		{"picket_gpu_xid_events_total", "counter", map[string]float64{b: 2}, `,xid="79"`},
		{"picket_gpu_age_seconds", "gauge", map[string]float64{a: 3}, ""},
	} {
		fmt.Fprintf(&text, "# TYPE %s %s\n", m.name, m.kind)
		for uuid, v := range m.of {
			fmt.Fprintf(&text, "%s{gpu=%q%s} %v\n", m.name, uuid, m.more, v)
		}
	}
	s, err := sampleOf(text.String(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	v := newView(nil, s)
	want := []tableLine{
		{"GPU-5f2c1e0a: in use, 1 models, 37% busy, 3.3 of 15.0 GiB, 61 °C, 70 W, slowed down (hardware_thermal)", refusingLine},
		{"GPU-6a000000: out of use, 2 models, Xid 79 × 2", failingLine},
		{"MIG-7b000000: in use, 0 models", plainLine},
	}
	if got := v.lines(0)[1:4]; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if g := v.Models[0].GPUs; len(g) != 1 || g[0] != a {
		t.Errorf("the model is on %q", g)
	}
	data, err := json.Marshal(v)
	if err != nil || !strings.Contains(string(data), `"throttled":["hardware_thermal"]`) || !strings.Contains(string(data), `"temperature_celsius":null`) {
		t.Errorf("%s, %v", data, err)
	}
}

func TestTopTableFitsTheTerminal(t *testing.T) {
	at := time.Now()
	s, err := sampleOf(oneModel, at)
	if err != nil {
		t.Fatal(err)
	}
	v := newView(&sample{at: at.Add(-time.Second)}, s)
	whole := v.lines(0)[2].text
	for width := 20; width <= len(whole); width++ {
		title := v.lines(width)[2].text
		if len(title) > width || !strings.HasPrefix(title, "MODEL") || !strings.Contains(title, "REQ/S") {
			t.Errorf("%d wide: %q", width, title)
		}
	}
	if v.lines(len(whole))[2].text != whole {
		t.Error("a column is missing though there is room")
	}
}

func TestShortNumbers(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 0.25: "0.25", 7: "7", 9.996: "10.0", 1024: "1024", 12345: "12.3k", 999999: "1.00M", 2.5e6: "2.50M", 3e15: "3000T"} {
		if got := shortNumber(n); got != want {
			t.Errorf("%v is shown as %s, want %s", n, got, want)
		}
	}
	for s, want := range map[float64]string{0: "0ns", 198e-9: "198ns", 1.0244e-6: "1.02µs", 999.7e-6: "1.00ms", 0.0123: "12.3ms", 17.2: "17.2s", 3600: "3600s"} {
		if got := shortTime(s); got != want {
			t.Errorf("%v s are shown as %s, want %s", s, got, want)
		}
	}
}

// FuzzTop: whatever stands in two answers, what is shown of them is JSON, has no control characters, and its percentiles
// are in order.
func FuzzTop(f *testing.F) {
	f.Add(oneModel, oneModel)
	f.Add("", oneModel)
	f.Add(oneModel, "# TYPE picket_gpu_load_ratio gauge\npicket_gpu_load_ratio{gpu=\"\\n\"} NaN\npicket_gpu_load_ratio{gpu=\"é\"} 1\n")
	f.Add(oneModel, strings.ReplaceAll(strings.ReplaceAll(oneModel, "100", "NaN"), "7", "+Inf"))
	f.Add(oneModel, "# TYPE picket_model_info gauge\npicket_model_info{model=\"a\\nb\"} 1\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		at := time.Now()
		before, err := sampleOf(a, at)
		if err != nil {
			return
		}
		now, err := sampleOf(b, at.Add(time.Second))
		if err != nil {
			return
		}
		for _, v := range []*view{newView(nil, before), newView(before, now)} {
			if _, err := json.Marshal(v); err != nil {
				t.Error(err)
			}
			for _, line := range v.lines(80) {
				if strings.ContainsFunc(line.text, func(r rune) bool { return r < ' ' }) {
					t.Errorf("%q", line.text)
				}
			}
			for _, m := range v.Models {
				for phase, p := range m.Phases {
					if p.P50 != nil && p.P99 != nil && *p.P50 > *p.P99 {
						t.Errorf("%s: half take %v s, 99 in 100 %v s", phase, *p.P50, *p.P99)
					}
				}
			}
		}
	})
}
