package page

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/roofline"
)

func example(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("../report/testdata/example.json")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parsed(t testing.TB, data []byte) *report.Result {
	t.Helper()
	r, err := report.ParseResult(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func written(t testing.TB, in Input) string {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, in); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// roof is a roofline of invented figures.
func roof() *roofline.Report {
	return &roofline.Report{
		Schema: roofline.Schema, Version: 1, Processor: "a processor", Level: "x86-64-v3",
		Bandwidth:  []roofline.Bandwidth{{Level: "L1", Bytes: 16 << 10, BytesPerS: 180e9}, {Level: "L2", Bytes: 256 << 10, BytesPerS: 90e9}, {Level: "memory", Bytes: 256 << 20, BytesPerS: 14e9}},
		Operations: []roofline.Operation{{Name: "byte compares of 32 bytes (AVX2)", Bits: 256, PerS: 8e9}},
		Kernels:    []roofline.Kernel{{Kernel: "avx2 row", Model: "500x6x30", Rows: 1, NSPerRow: 2600, BytesPerRow: 64000, OperationsPerRow: 6000, How: "counted from the model", InstructionsPerRow: 20000}},
		Notes:      []string{"bytes are counted from the tables' sizes"},
	}
}

// The page has what the result has, in elements that are closed, and nothing that a network would be asked for.
func TestPage(t *testing.T) {
	t.Parallel()
	first, second := parsed(t, example(t)), parsed(t, example(t))
	html := written(t, Input{Results: []Named{{"a.json", first}, {"b.json", second}}, Rooflines: []*roofline.Report{roof()}})
	for _, want := range []string{
		"Suite m5", "the hypervisor gave 3.1%", "suite m5 was forced", "Xeon", "SingleStream", "Server", "Latency by percentile", "Latency against throughput",
		"Where the time goes", "Not to be used: latencies were not steady", "times better", "From a.json to b.json", "cannot be told", "Roofline of one core", "triton",
		"bound: 1 ms", "p50", "prefers-color-scheme:dark", "byte compares of 32 bytes (AVX2)",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if found := regexp.MustCompile(`(?i)(src|href|action|srcset)\s*=\s*"?(https?:|//)|@import|url\(|ZgotmplZ|NaN|%!`).FindString(html); found != "" {
		t.Errorf("the page has %q", found)
	}
	wellFormed(t, html)
}

// wellFormed reads the page's body as XML, but for what HTML writes differently.
func wellFormed(t *testing.T, html string) {
	t.Helper()
	body := html[strings.Index(html, "<body>"):strings.Index(html, "<script>")]
	body = strings.ReplaceAll(body, "<br>", "<br/>")
	body = regexp.MustCompile(` (hidden|open)>`).ReplaceAllString(body, ">")
	d := xml.NewDecoder(strings.NewReader(body + "</body>"))
	d.Entity = xml.HTMLEntity
	ids := map[string]bool{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		for _, a := range start.Attr {
			if a.Name.Local == "id" {
				if ids[a.Value] {
					t.Errorf("two elements are called %q", a.Value)
				}
				ids[a.Value] = true
			}
			if a.Name.Local == "style" || strings.HasPrefix(a.Name.Local, "on") {
				t.Errorf("element %s has %s, which the page's policy forbids", start.Name.Local, a.Name.Local)
			}
		}
	}
	for _, use := range regexp.MustCompile(`(?:aria-labelledby="|href="#)([^"]*)"`).FindAllStringSubmatch(body, -1) {
		for id := range strings.FieldsSeq(use[1]) {
			if !ids[id] {
				t.Errorf("%q is named and not there", id)
			}
		}
	}
}

// What a result says is text, whatever it says.
func TestStrangersText(t *testing.T) {
	t.Parallel()
	const evil = `</script><script>alert(1)</script><img src=x onerror=alert(1)>"'` + "`"
	data := bytes.ReplaceAll(example(t), []byte(`"fraud"`), []byte(`"\u003c/script>\u003cscript>alert(1)\u003c/script>\u003cimg src=x onerror=alert(1)>\"'`+"`"+`"`))
	r := parsed(t, data)
	r.Marks, r.Environment.CPU.Model, r.Tool.Version, r.Suite.Name = []string{evil}, evil, evil, evil
	for i := range r.Runs {
		r.Runs[i].Target, r.Runs[i].Variant, r.Runs[i].Parameters.Case = evil, evil, evil
		r.Runs[i].Verdict = report.Verdict{Why: []string{evil}}
	}
	html := written(t, Input{Results: []Named{{evil, r}}})
	if strings.Count(html, "<script") != 1 || strings.Contains(html, "<img") {
		t.Error("text of the result became an element")
	}
	wellFormed(t, html)
}

// Whatever a result says, the page is made, has one script, and no number that is none.
func FuzzPage(f *testing.F) {
	f.Add(example(f))
	f.Add([]byte(`{"schema":"picket.bench.result","version":1,"runs":[{"scenario":"Server","curve":[{"achieved_per_s":1e308,"p99_ns":-5},{"achieved_per_s":-1}],"parameters":{"latency_bound_ns":1},"phases":[{"name":"x","mean_ns":1e308},{"mean_ns":1e308}]}]}`))
	f.Add([]byte(`{"schema":"picket.bench.result","version":1,"runs":[{"summary":{"metric":{"value":{"value":5e-324}}}},{"target":"b","summary":{"metric":{"value":{"value":1e308}}}}],"environment":{"cpu":{"caches":[{"bytes":-1}]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := report.ParseResult(data)
		if err != nil {
			return
		}
		html := written(t, Input{Results: []Named{{"a", r}}})
		if strings.Count(html, "<script>") != 1 {
			t.Error("another script")
		}
		if found := regexp.MustCompile(`(cx|cy|x|y|x1|x2|y1|y2|d|width)="[^"]*(NaN|Inf)[^"]*"`).FindString(html); found != "" {
			t.Errorf("a drawing has %s", found)
		}
	})
}
