package monitor_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/monitor"
)

// twoAndScore is a baseline of two numbers and a score.
func twoAndScore(t testing.TB) *monitor.Statistics {
	rows, err := monitor.NewCSV(strings.NewReader("a,score,b\n1,0.5,2\n3,0.25,4\n"), true)
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := monitor.Baseline(context.Background(), rows, monitor.BaselineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func floats(list ...float32) string {
	var b []byte
	for _, x := range list {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(b)
}

// allRows are the rows as text, absent values as "-" and missing ones as "?".
func allRows(rows monitor.Rows) ([]string, error) {
	var all []string
	for {
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		text := make([]string, len(row))
		for i, v := range row {
			text[i] = [...]string{"-", "?", fmt.Sprint(v.Number), v.Text}[v.Kind]
		}
		all = append(all, strings.Join(text, " "))
	}
}

func TestCapture(t *testing.T) {
	for name, one := range map[string]struct{ line, want string }{
		"csv of both sides": {
			`{"captureData":{"endpointInput":{"observedContentType":"text/csv","mode":"INPUT","data":"1,2\n3,\n","encoding":"CSV"},"endpointOutput":{"observedContentType":"text/csv","mode":"OUTPUT","data":"0.5\n0.7","encoding":"CSV"}},"eventMetadata":{"eventId":"x","inferenceTime":"2026-02-14T17:25:06Z"},"eventVersion":"0"}`,
			"1 0.5 2|3 0.7 ?",
		},
		"the input alone":  {`{"captureData":{"endpointInput":{"data":"1,2","encoding":"CSV"}}}`, "1 - 2"},
		"the output alone": {`{"captureData":{"endpointOutput":{"data":"0.5","encoding":"CSV"}}}`, "- 0.5 -"},
		"csv in base64":    {`{"captureData":{"endpointInput":{"observedContentType":"text/csv; charset=utf-8","data":"MSwy","encoding":"BASE64"}}}`, "1 - 2"},
		"a json object":    {`{"captureData":{"endpointInput":{"data":"{\"b\":2,\"a\":null,\"c\":\"x\"}","encoding":"JSON"}}}`, "? - 2 x"},
		"named answers":    {`{"captureData":{"endpointInput":{"data":"1,2","encoding":"CSV"},"endpointOutput":{"data":"{\"class\":0.5,\"probability\":1}","encoding":"JSON"}}}`, "1 0.5 2"},
		"mixed json rows":  {`{"captureData":{"endpointInput":{"data":"[{\"a\":1,\"b\":2},[3]]","encoding":"JSON"}}}`, "1 - 2|3 - ?"},
		"json rows":        {`{"captureData":{"endpointInput":{"data":"[[1,2],[3,4]]","encoding":"JSON"}}}`, "1 - 2|3 - 4"},
		"one value less":   {`{"captureData":{"endpointInput":{"data":"1","encoding":"CSV"}}}`, "1 - ?"},
		"one value more":   {`{"captureData":{"endpointInput":{"data":"1,2,3","encoding":"CSV"}}}`, "1 - 2 3"},
		"a device": {
			`{"deviceFleetInputs":[{"name":"data","data":"` + floats(1, 2, 3, float32(math.NaN())) + `","encoding":"BASE64","mode":"Input","observedContentType":"Tensor[FLOAT32; 2, 2]"}],"deviceFleetOutputs":[{"name":"output","data":"` + floats(0.5, 0.75) + `","encoding":"BASE64","mode":"Output","observedContentType":"Tensor[FLOAT32; 2, 1]"}],"eventVersion":"0"}`,
			"1 0.5 2|3 0.75 ?",
		},
		"two tensors": {
			`{"deviceFleetInputs":[{"name":"x","data":"` + floats(1) + `","encoding":"BASE64","observedContentType":"Tensor[FP32; 1, 1]"},{"name":"y","data":"Ag==","encoding":"BASE64","observedContentType":"Tensor[INT8; 1, 1]"}],"deviceFleetOutputs":[]}`,
			"1 - 2",
		},
		"by reference":   {`{"deviceFleetInputs":[{"name":"x","data-ref":"s3://bucket/key","encoding":"NONE","observedContentType":"Tensor[FLOAT32; 1, 2]"}]}`, ""},
		"ground truth":   {`{"groundTruthData":{"data":"1","encoding":"CSV"},"eventMetadata":{"eventId":"x"},"eventVersion":"0"}`, ""},
		"an empty line":  {"", ""},
		"no data at all": {`{"captureData":{}}`, ""},
	} {
		got, err := allRows(monitor.NewCapture(strings.NewReader(one.line+"\n"), twoAndScore(t)))
		if err != nil || strings.Join(got, "|") != one.want {
			t.Errorf("%s: the rows are %q and the error %v, want %q", name, got, err, one.want)
		}
	}
}

func TestCaptureRefuses(t *testing.T) {
	device := func(data, kind string) string {
		return `{"deviceFleetInputs":[{"name":"x","data":"` + data + `","encoding":"BASE64","observedContentType":"` + kind + `"}]}`
	}
	for name, line := range map[string]string{
		"no JSON":           `hello`,
		"no record":         `{"x":1}`,
		"no table":          `{"captureData":{"endpointInput":{"observedContentType":"image/png","data":"AAAA","encoding":"BASE64"}}}`,
		"no base64":         `{"captureData":{"endpointInput":{"observedContentType":"text/csv","data":"***","encoding":"BASE64"}}}`,
		"csv":               `{"captureData":{"endpointInput":{"data":"\"1,2","encoding":"CSV"}}}`,
		"too few bytes":     device(floats(1), "Tensor[FLOAT32; 1, 2]"),
		"an unknown type":   device(floats(1), "Tensor[QUATERNION; 1, 1]"),
		"a shape":           device(floats(1), "Tensor[FLOAT32; 1, x]"),
		"a huge shape":      device(floats(1), "Tensor[FLOAT32; 999999999999, 999999999999]"),
		"a shape overflows": device(floats(1), "Tensor[INT64; 2147483647, 4096, 2147483647]"),
	} {
		if rows, err := allRows(monitor.NewCapture(strings.NewReader(line), twoAndScore(t))); err == nil {
			t.Errorf("%s: it was taken as %q", name, rows)
		}
	}
}

// A folder is read in the order of its names, compressed files too, and what else
// lies in it is left out.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	line := func(a int) string {
		return fmt.Sprintf(`{"captureData":{"endpointInput":{"data":"%d,2","encoding":"CSV"}}}`+"\n", a)
	}
	var packed bytes.Buffer
	g := gzip.NewWriter(&packed)
	if _, err := g.Write([]byte(line(2))); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"10/a.jsonl": line(1), "11/b.jsonl.gz": packed.String(), "12/c.jsonl": line(3), "12/notes.txt": "hello", "raw-data/x": "y"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := monitor.LocalFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := monitor.OpenTable(context.Background(), files, monitor.TableOptions{Baseline: twoAndScore(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	got, err := allRows(rows)
	if err != nil || strings.Join(got, "|") != "1 - 2|2 - 2|3 - 2" {
		t.Errorf("the rows are %q and the error %v", got, err)
	}
	if _, err := monitor.LocalFiles(filepath.Join(dir, "raw-data")); err == nil {
		t.Error("a folder without data was taken")
	}
}

// Whatever a file of captured data holds, it ends in rows that fit or in an error.
func FuzzCapture(f *testing.F) {
	f.Add([]byte(`{"captureData":{"endpointInput":{"data":"1,2","encoding":"CSV"},"endpointOutput":{"data":"[1]","encoding":"JSON"}}}`))
	f.Add([]byte(`{"deviceFleetInputs":[{"name":"x","data":"` + floats(1, 2) + `","encoding":"BASE64","observedContentType":"Tensor[FLOAT32; 1, 2]"}],"deviceFleetOutputs":[]}`))
	f.Add([]byte(`{"captureData":{"endpointInput":{"data":"[{\"a\":1},{\"b\":[2]}]","encoding":"JSON"}}}`))
	f.Add([]byte(`{"captureData":{"endpointInput":{"data":"[{\"a\":1,\"b\":2},[3]]","encoding":"JSON"},"endpointOutput":{"data":"{\"x\":1,\"y\":2}","encoding":"JSON"}}}`))
	baseline := twoAndScore(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		rows := monitor.NewCapture(bytes.NewReader(data), baseline)
		for {
			row, err := rows.Next()
			if err != nil {
				return
			}
			if len(row) < len(baseline.Features) || len(row) > len(rows.Columns()) {
				t.Fatalf("a row of %d values for %d columns", len(row), len(rows.Columns()))
			}
			for _, v := range row {
				if v.Kind == monitor.Number && (math.IsNaN(v.Number) || math.IsInf(v.Number, 0)) {
					t.Fatalf("a number is %v", v.Number)
				}
			}
		}
	})
}

// Statistics that are taken can be compared with, whoever wrote them.
func FuzzStatistics(f *testing.F) {
	s := twoAndScore(f)
	data, err := s.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"features":[{"name":"x","inferred_type":"Integral","numerical_statistics":{"distribution":{"kll":{"sketch":{"data":[[1],[2,3]]}}}}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := monitor.ParseStatistics(data)
		if err != nil {
			return
		}
		for i := range s.Features {
			b := monitor.BinsOf(&s.Features[i])
			if b == nil || b.Texts != nil {
				continue
			}
			if len(b.Shares) != len(b.Edges)+1 {
				t.Fatalf("%d parts have %d edges", len(b.Shares), len(b.Edges))
			}
			if i := b.Index(1); i < 0 || i >= len(b.Shares) {
				t.Fatalf("a number is in part %d of %d", i, len(b.Shares))
			}
		}
	})
}
