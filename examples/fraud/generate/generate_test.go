package generate_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/picket-ml/picket/examples/fraud/features"
	"github.com/picket-ml/picket/examples/fraud/generate"
	"github.com/picket-ml/picket/internal/testkit"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

func digest(t *testing.T, seed uint64) [32]byte {
	t.Helper()
	var file bytes.Buffer
	if _, err := generate.Write(generate.New(generate.Options{Seed: seed, Customers: 100}), generate.NewCSV(&file, true), 2000, true); err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(file.Bytes())
}

// TestSeed shows that a seed gives the same file, and another another.
func TestSeed(t *testing.T) {
	if first, second := digest(t, 5), digest(t, 5); first != second {
		t.Error("one seed gave two files")
	}
	if digest(t, 5) == digest(t, 6) {
		t.Error("two seeds gave one file")
	}
}

// TestShape holds the simulation to what it says: order, few frauds of every scenario, several countries, habits that drift, all acceptable to the application.
func TestShape(t *testing.T) {
	s := generate.New(generate.Options{Customers: 160})
	scenarios, countries := map[generate.Scenario]int{}, map[string]bool{}
	var total, frauds, last int64
	var online [2]float64
	var count [2]float64
	const days = 150
	for day := range days {
		for _, one := range s.Day() {
			if one.At < last {
				t.Fatalf("%s is before the one before it", one.ID())
			}
			last = one.At
			in := one.API(one.ID())
			if _, err := features.Of(&in); err != nil {
				t.Fatalf("the application would refuse %s: %v", one.ID(), err)
			}
			total++
			if one.Fraud() {
				frauds++
			}
			scenarios[one.Scenario]++
			countries[in.Country] = true
			if half := day / (days / 2); one.Channel == features.Online {
				online[half]++
			}
			count[day/(days/2)]++
		}
	}
	if part := float64(frauds) / float64(total); part < 0.002 || part >= 0.01 {
		t.Errorf("%.2f%% are frauds, want under 1%%, and enough to learn from", 100*part)
	}
	for c := generate.Honest; c <= generate.Takeover; c++ {
		if scenarios[c] == 0 {
			t.Errorf("nothing is %s", c)
		}
	}
	if len(countries) < 10 {
		t.Errorf("only the countries %v", countries)
	}
	if online[1]/count[1] <= online[0]/count[0] {
		t.Errorf("the part that is paid online went from %v to %v, and should rise", online[0]/count[0], online[1]/count[1])
	}
}

// TestFormats writes the same transactions as CSV and as Parquet and reads both.
func TestFormats(t *testing.T) {
	const n = 1000
	write := func(to func(io.Writer) generate.Writer) *bytes.Buffer {
		var file bytes.Buffer
		if _, err := generate.Write(generate.New(generate.Options{Seed: 3, Customers: 60}), to(&file), n, true); err != nil {
			t.Fatal(err)
		}
		return &file
	}
	text := write(func(w io.Writer) generate.Writer { return generate.NewCSV(w, true) })
	binary := write(func(w io.Writer) generate.Writer { return generate.NewParquet(w, true) })
	again, simulation := []generate.Transaction{}, generate.New(generate.Options{Seed: 3, Customers: 60})
	for len(again) < n {
		again = append(again, simulation.Day()...)
	}
	read := 0
	if err := generate.ReadCSV(bytes.NewReader(text.Bytes()), func(id string, got features.Transaction, fraud bool) error {
		want := again[read]
		wantID := want.ID()
		want.Key = features.Key(wantID) // of an id that was read
		if id != wantID || got != want.Transaction || fraud != want.Fraud() {
			return fmt.Errorf("transaction %d is read as %s, %+v, %v, want %s, %+v, %v", read, id, got, fraud, wantID, want.Transaction, want.Fraud())
		}
		read++
		return nil
	}); err != nil || read != n {
		t.Fatalf("%d transactions are read: %v", read, err)
	}
	lines, err := csv.NewReader(text).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != n+1 {
		t.Fatalf("%d lines, want a header and %d", len(lines), n)
	}
	file, err := parquet.OpenFile(bytes.NewReader(binary.Bytes()), int64(binary.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if file.NumRows() != n {
		t.Fatalf("%d rows, want %d", file.NumRows(), n)
	}
	if names, _ := file.Lookup("features"); names != strings.Join(features.Names(), ",") {
		t.Errorf("the metadata says that the features are %s", names)
	}
	at := map[string]int{}
	for i, path := range file.Schema().Columns() {
		at[path[0]] = i
	}
	reader := parquet.NewReader(file)
	defer reader.Close()
	rows := make([]parquet.Row, 1)
	for i := 1; i <= n; i++ {
		if k, err := reader.ReadRows(rows); k != 1 || (err != nil && !errors.Is(err, io.EOF)) {
			t.Fatalf("row %d: %v", i, err)
		}
		for j, name := range lines[0] {
			want, v := lines[i][j], rows[0][at[name]]
			got := ""
			switch {
			case name == "time":
				got = time.UnixMilli(v.Int64()).UTC().Format("2006-01-02T15:04:05.000Z")
			case name == "latitude" || name == "longitude":
				got = fmt.Sprintf("%.6f", v.Double())
			case v.Kind() == parquet.ByteArray:
				got = string(v.ByteArray())
			case v.Kind() == parquet.Float:
				if f := v.Float(); f == f {
					got = fmt.Sprint(f)
				}
				if want != "" {
					var f float32
					if _, err := fmt.Sscan(want, &f); err != nil {
						t.Fatal(err)
					}
					want = fmt.Sprint(f)
				}
			default:
				got = v.String()
			}
			if got != want {
				t.Fatalf("row %d, %s: %q in Parquet, %q in CSV", i, name, got, want)
			}
		}
	}
}

// TestReadCSV shows what may be left out, and what is refused, with the line.
func TestReadCSV(t *testing.T) {
	const head = "country,latitude,longitude,id,time,customer,terminal,merchant,device,cents,channel,merchant_category"
	const good = "PT,38.72,-9.14,t-1,2026-03-01T10:15:30.250+02:00,17,204,51,17001,4250,chip,grocery"
	read := func(text string) (list []features.Transaction, err error) {
		err = generate.ReadCSV(strings.NewReader(text), func(_ string, one features.Transaction, fraud bool) error {
			if fraud {
				return errors.New("a fraud of which nobody has spoken")
			}
			list = append(list, one)
			return nil
		})
		return list, err
	}
	list, err := read(head + "\n" + good + "\n")
	if err != nil || len(list) != 1 || list[0].Amount != 4250 || time.UnixMilli(list[0].At).UTC().Hour() != 8 || list[0].Latitude != 38_720_000 {
		t.Fatalf("%+v, %v", list, err)
	}
	for name, c := range map[string]struct{ text, says string }{
		"nothing":            {"", "empty"},
		"a column too few":   {strings.Replace(head, "cents", "euros", 1) + "\n" + good, "cents"},
		"a field too few":    {head + "\n" + strings.TrimSuffix(good, ",grocery"), "line 2"},
		"no amount":          {head + "\n" + good + "\n" + strings.Replace(good, "4250", "", 1), "line 3"},
		"a negative amount":  {head + "\n" + strings.Replace(good, "4250", "-1", 1), "cents"},
		"a large number":     {head + "\n" + strings.Replace(good, "17001", "4294967296", 1), "device"},
		"no time":            {head + "\n" + strings.Replace(good, "2026-03-01", "yesterday", 1), "time"},
		"nowhere":            {head + "\n" + strings.Replace(good, "38.72", "NaN", 1), "latitude"},
		"an unknown channel": {head + "\n" + strings.Replace(good, "chip", "pigeon", 1), "channel"},
		"an open quote":      {head + "\n\"" + good, "quote"},
	} {
		if list, err := read(c.text); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v, %v, want a refusal that says %q", name, list, err, c.says)
		}
	}
}
