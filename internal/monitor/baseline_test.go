package monitor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/picket-ml/picket/internal/monitor"
)

func csvOf(t *testing.T, text string) monitor.Rows {
	t.Helper()
	rows, err := monitor.NewCSV(strings.NewReader(text), true)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func baselineOf(t *testing.T, text string, o monitor.BaselineOptions) (*monitor.Statistics, *monitor.Constraints) {
	t.Helper()
	s, c, err := monitor.Baseline(context.Background(), csvOf(t, text), o)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func featureOf(t *testing.T, s *monitor.Statistics, name string) *monitor.Feature {
	t.Helper()
	for i := range s.Features {
		if s.Features[i].Name == name {
			return &s.Features[i]
		}
	}
	t.Fatalf("there is no feature %q", name)
	return nil
}

const people = `age,amount,country,note,label
20,1.5,DE,,0
30,2.5,FR,,1
40,,DE,,0
50,-4,DE,,1
`

// What the numbers are was reckoned by hand.
func TestBaseline(t *testing.T) {
	s, c := baselineOf(t, people, monitor.BaselineOptions{Drop: []string{"label"}})
	if s.Dataset.ItemCount != 4 || len(s.Features) != 4 {
		t.Fatalf("%v rows and %d features, want 4 and 4", s.Dataset.ItemCount, len(s.Features))
	}
	age := featureOf(t, s, "age")
	n := age.Numerical
	if age.Type != monitor.Integral || n.Mean != 35 || n.Sum != 140 || n.Min != 20 || n.Max != 50 || math.Abs(n.StdDev-math.Sqrt(125)) > 1e-12 {
		t.Errorf("age: %s %+v", age.Type, n)
	}
	if b := n.Distribution.KLL.Buckets; len(b) != 10 || b[0].LowerBound != 20 || b[9].UpperBound != 50 || b[0].Count != 1 || b[9].Count != 1 || b[3].Count != 1 {
		t.Errorf("the buckets of age are %v", b)
	}
	if d := n.Distribution.KLL.Sketch.Data; len(d) != 1 || !slices.Equal(d[0], []float64{20, 30, 40, 50}) {
		t.Errorf("the sketch of age holds %v", d)
	}
	amount := featureOf(t, s, "amount")
	if amount.Type != monitor.Fractional || amount.Numerical.Common != (monitor.Common{Present: 3, Missing: 1}) {
		t.Errorf("amount: %s %+v", amount.Type, amount.Numerical.Common)
	}
	country := featureOf(t, s, "country")
	want := []monitor.Category{{Value: "DE", Count: 3}, {Value: "FR", Count: 1}}
	if country.Type != monitor.String || country.Strings.DistinctCount != 2 || !slices.Equal(country.Strings.Distribution.Categorical.Buckets, want) {
		t.Errorf("country: %s %+v", country.Type, country.Strings)
	}
	if note := featureOf(t, s, "note"); note.Type != monitor.Unknown || note.Numerical != nil || note.Strings != nil {
		t.Errorf("note: %+v", note)
	}
	for i, want := range []struct {
		complete    float64
		nonNegative bool
	}{{1, true}, {0.75, false}} {
		if f := c.Features[i]; f.Completeness != want.complete || f.Numbers.NonNegative != want.nonNegative {
			t.Errorf("the constraints of %s are %v and %+v", f.Name, f.Completeness, f.Numbers)
		}
	}
	if d := c.Features[2].Strings.Domains; !slices.Equal(d, []string{"DE", "FR"}) {
		t.Errorf("the domain of country is %q", d)
	}
}

// What is written is what is read, and the same data give the same bytes.
func TestFilesRoundTrip(t *testing.T) {
	s, c := baselineOf(t, people, monitor.BaselineOptions{Score: "label"})
	first, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := monitor.ParseStatistics(first)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := back.Encode()
	other, _ := baselineOf(t, people, monitor.BaselineOptions{Score: "label"})
	twice, _ := other.Encode()
	if !bytes.Equal(first, again) || !bytes.Equal(first, twice) {
		t.Error("the statistics differ after a round trip, or from those of the same data")
	}
	if featureOf(t, back, monitor.ScoreName).Type != monitor.Integral {
		t.Error("the column that was named as the score is not called so")
	}
	constraints, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := monitor.ParseConstraints(constraints); err != nil {
		t.Fatal(err)
	}
}

// sequence is a table of one column without an end in sight.
type sequence struct {
	n    int
	next func(i int) monitor.Value
	row  [1]monitor.Value
	at   int
}

func (s *sequence) Columns() []string { return []string{"x"} }

func (s *sequence) Next() ([]monitor.Value, error) {
	if s.at == s.n {
		return nil, io.EOF
	}
	s.row[0] = s.next(s.at)
	s.at++
	return s.row[:], nil
}

// Ranks of the sketch are within 1% of the true ones, whatever order numbers come in,
// and what it keeps does not grow with them.
func TestSketchIsCloseAndSmall(t *testing.T) {
	const n = 100_000
	random := rand.New(rand.NewPCG(7, 7))
	shuffled := random.Perm(n)
	for name, next := range map[string]func(i int) float64{
		"ascending":  func(i int) float64 { return float64(i) },
		"descending": func(i int) float64 { return float64(n - 1 - i) },
		"shuffled":   func(i int) float64 { return float64(shuffled[i]) },
		"zigzag":     func(i int) float64 { return float64((i%2)*(n-1-i) + (1-i%2)*i) },
	} {
		s, _, err := monitor.Baseline(context.Background(), &sequence{n: n, next: func(i int) monitor.Value { return monitor.NumberValue(next(i)) }}, monitor.BaselineOptions{})
		if err != nil {
			t.Fatal(err)
		}
		k := s.Features[0].Numerical.Distribution.KLL
		var kept int
		var weight float64
		for level, numbers := range k.Sketch.Data {
			kept += len(numbers)
			weight += math.Ldexp(float64(len(numbers)), level)
		}
		if kept > 4*2048 {
			t.Errorf("%s: the sketch keeps %d of %d numbers", name, kept, n)
		}
		if weight != n {
			t.Errorf("%s: the numbers of the sketch stand for %v, there were %d", name, weight, n)
		}
		if name == "zigzag" {
			continue // not every number is there once
		}
		for i, b := range k.Buckets {
			if math.Abs(b.Count-n/10) > n/100 {
				t.Errorf("%s: bucket %d has %v of %d numbers, want a tenth within 1%%", name, i, b.Count, n)
			}
		}
	}
}

// A column of ever new texts takes no more memory than one of few, and how many there
// were is estimated.
func TestManyTexts(t *testing.T) {
	const n = 20_000
	s, c, err := monitor.Baseline(context.Background(), &sequence{n: n, next: func(i int) monitor.Value { return monitor.TextValue(fmt.Sprintf("id-%d", i)) }}, monitor.BaselineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	texts := s.Features[0].Strings
	if len(texts.Distribution.Categorical.Buckets) != 1000 {
		t.Errorf("%d values are listed, want 1000", len(texts.Distribution.Categorical.Buckets))
	}
	if d := texts.DistinctCount; d < 0.85*n || d > 1.15*n {
		t.Errorf("%v texts are estimated, there were %d", d, n)
	}
	if c.Features[0].Strings != nil {
		t.Error("a column of many texts has a domain")
	}
}

func TestValues(t *testing.T) {
	for text, want := range map[string]monitor.Value{
		"":         {Kind: monitor.Missing},
		"  ":       {Kind: monitor.Missing},
		"NaN":      {Kind: monitor.Missing},
		"null":     {Kind: monitor.Missing},
		"-inf":     {Kind: monitor.Missing},
		"Infinity": {Kind: monitor.Missing},
		"1e300":    {Kind: monitor.Missing},
		" 12 ":     {Kind: monitor.Number, Number: 12},
		"-1.5e3":   {Kind: monitor.Number, Number: -1500},
		"007":      {Kind: monitor.Number, Number: 7},
		"12a":      {Kind: monitor.Text, Text: "12a"},
		"NA":       {Kind: monitor.Text, Text: "NA"},
		"infant":   {Kind: monitor.Text, Text: "infant"},
		"-":        {Kind: monitor.Text, Text: "-"},
	} {
		if got := monitor.TextValue(text); got != want {
			t.Errorf("%q is %+v, want %+v", text, got, want)
		}
	}
}

func TestBaselineRefuses(t *testing.T) {
	for name, one := range map[string]struct {
		text string
		o    monitor.BaselineOptions
		want string
	}{
		"no rows":               {"a,b\n", monitor.BaselineOptions{}, "no rows"},
		"a short row":           {"a,b\n1\n", monitor.BaselineOptions{}, "wrong number of fields"},
		"an unknown column":     {"a\n1\n", monitor.BaselineOptions{Drop: []string{"b"}}, `no column "b"`},
		"an unknown score":      {"a\n1\n", monitor.BaselineOptions{Score: "b"}, `no column "b"`},
		"two columns of scores": {"a,score\n1,2\n", monitor.BaselineOptions{Score: "a"}, `called "score"`},
	} {
		_, _, err := monitor.Baseline(context.Background(), csvOf(t, one.text), one.o)
		if err == nil || !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s: the error is %v, want one with %q", name, err, one.want)
		}
	}
	for name, text := range map[string]string{"two columns of a name": "a,a\n", "a column without a name": "a,\n", "nothing": ""} {
		if _, err := monitor.NewCSV(strings.NewReader(text), true); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}

type person struct {
	Age     int64    `parquet:"age"`
	Amount  *float64 `parquet:"amount,optional"`
	Country string   `parquet:"country"`
}

// The same table gives the same baseline as Parquet and as CSV, and a damaged file an
// error.
func TestParquet(t *testing.T) {
	number := func(x float64) *float64 { return &x }
	var file bytes.Buffer
	w := parquet.NewGenericWriter[person](&file)
	if _, err := w.Write([]person{{20, number(1.5), "DE"}, {30, number(2.5), "FR"}, {40, nil, "DE"}, {50, number(-4), "DE"}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "people.parquet")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(path string) (*monitor.Statistics, error) {
		files, err := monitor.LocalFiles(path)
		if err != nil {
			return nil, err
		}
		table, err := monitor.OpenTable(context.Background(), files, monitor.TableOptions{})
		if err != nil {
			return nil, err
		}
		defer table.Close()
		s, _, err := monitor.Baseline(context.Background(), table, monitor.BaselineOptions{})
		return s, err
	}
	got, err := read(path)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := baselineOf(t, people, monitor.BaselineOptions{Drop: []string{"label", "note"}})
	gotText, _ := got.Encode()
	wantText, _ := want.Encode()
	if !bytes.Equal(gotText, wantText) {
		t.Errorf("Parquet gives\n%s\nCSV gives\n%s", gotText, wantText)
	}
	for i := 0; i < file.Len(); i += 7 {
		damaged := bytes.Clone(file.Bytes())
		damaged[i] ^= 0x55
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = read(path) // it may be refused or not, and must end nothing
	}
}

type capturedPerson struct {
	Event string   `parquet:"event_id"`
	Row   int32    `parquet:"row"`
	A     *float32 `parquet:"in.data_0,optional"`
	B     float32  `parquet:"in.data_1"`
	More  float32  `parquet:"in.data_2"`
	Score float32  `parquet:"out.output_0"`
}

// Captured data as Parquet are told from other tables by their columns.
func TestCapturedParquet(t *testing.T) {
	number := func(x float32) *float32 { return &x }
	path := filepath.Join(t.TempDir(), "captured.parquet")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := parquet.NewGenericWriter[capturedPerson](f)
	_, err = w.Write([]capturedPerson{{"x", 0, number(1), 2, 9, 0.5}, {"x", 1, nil, 4, 9, 0.25}})
	if err := errors.Join(err, w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	files, err := monitor.LocalFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := monitor.OpenTable(context.Background(), files, monitor.TableOptions{Baseline: twoAndScore(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	got, err := allRows(rows)
	if err != nil || strings.Join(got, "|") != "1 0.5 2 9|? 0.25 4 9" {
		t.Errorf("the rows of %q are %q and the error %v", rows.Columns(), got, err)
	}
}
