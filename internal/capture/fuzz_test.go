package capture_test

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/tensor"
)

// specimens are entries of every form.
func specimens() []*capture.Entry {
	at := time.Unix(1_700_000_000, 5).UTC()
	data := capture.Tensor{Name: "data", DType: tensor.FP32, Shape: []int64{2, 1}, Data: []byte{0, 0, 192, 127, 1, 2, 3, 4}}
	return []*capture.Entry{
		capture.Single(&capture.Record{Time: at, Model: "m", Kind: capture.Sample, Why: capture.ByRate | capture.ByError, Code: 13, Error: "it failed", Inputs: []capture.Tensor{data}}),
		capture.Single(&capture.Record{
			Inference: "one", Time: at, Model: "m", Version: "3", Kind: capture.Explicit, Rows: 2,
			Inputs:     []capture.Tensor{{Name: "big", DType: tensor.Uint8, Beside: &capture.Beside{Name: "x.big", Size: 1 << 30, SHA256: [32]byte{1}}}},
			AuxInputs:  []capture.Payload{{Name: "photo", Encoding: capture.None, Data: []byte("jpg")}},
			AuxOutputs: []capture.Payload{{Name: "boxes", Encoding: capture.Base64, Beside: &capture.Beside{Name: "y.big"}}},
		}),
		{Record: capture.Record{Time: at, Model: "m", Kind: capture.Sample, Why: capture.ByCount, Inputs: []capture.Tensor{data}, Outputs: []capture.Tensor{data}}, Numbered: true, Origin: [16]byte{7}, Parts: []capture.Part{{Number: 1, Rows: 1}, {Number: 9, Rows: 1}}},
		{Record: capture.Record{Time: at, Model: "m", Kind: capture.Sample, Why: capture.ByRate, Inputs: []capture.Tensor{data}}, Numbered: true, Origin: [16]byte{7}, Parts: []capture.Part{{Number: 8, Rows: 1}, {Number: 9, Rows: 1}}},
		{Record: capture.Record{Time: at, Model: "m", Kind: capture.Truth}, Parts: []capture.Part{{Inference: "a"}, {}}},
	}
}

// What is read is written the same, in as many bytes as are told, but for numbers that could be counted and were not; and its records have its rows.
func FuzzParseEntry(f *testing.F) {
	for _, e := range specimens() {
		b, err := e.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := capture.ParseEntry(b)
		if err != nil {
			if e != nil {
				t.Error("an error and an entry")
			}
			return
		}
		again, err := e.Append(nil)
		if err != nil || len(again) != e.Size() {
			t.Fatalf("%x was read, and is written as %x, which should be %d bytes, %v", b, again, e.Size(), err)
		}
		if same, err := capture.ParseEntry(again); err != nil || !bytes.Equal(again, b) && (len(again) > len(b) || !reflect.DeepEqual(same, e)) {
			t.Fatalf("%x was read, and written as %x, %v", b, again, err)
		}
		records := e.Records(capture.ID{Spool: 1, Sequence: 1})
		if len(records) != len(e.Parts) {
			t.Fatalf("%d parts make %d records", len(e.Parts), len(records))
		}
		for i := range e.Inputs {
			total := 0
			for _, r := range records {
				total += len(r.Inputs[i].Data)
			}
			if len(records) > 1 && total != len(e.Inputs[i].Data) {
				t.Errorf("the records of %d bytes have %d", len(e.Inputs[i].Data), total)
			}
		}
	})
}

func TestEntries(t *testing.T) {
	for i, e := range specimens() {
		b, err := e.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := capture.ParseEntry(b)
		if err != nil {
			t.Fatalf("specimen %d: %v", i, err)
		}
		if len(e.Parts) == 1 { // what a part says is not said twice
			e.Inference, e.Rows = "", 0
		}
		if !reflect.DeepEqual(again, e) {
			t.Errorf("specimen %d is read as %+v", i, again)
		}
	}
}

// Numbers that follow each other were written down one by one before they were counted, and are read.
func TestNumbersThatWereNotCounted(t *testing.T) {
	e := specimens()[2] // with the numbers 1 and 9
	b, err := e.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	nine := bytes.IndexByte(b, 9)
	b[nine] = 2
	old, err := capture.ParseEntry(b)
	if err != nil {
		t.Fatal(err)
	}
	e.Parts[1].Number = 2
	if !reflect.DeepEqual(old, e) {
		t.Errorf("read as %+v", old)
	}
	again, err := e.Append(nil)
	if err != nil || len(again) >= len(b) {
		t.Errorf("%d bytes in the place of %d, %v", len(again), len(b), err)
	}
}

// Entries that break a limit are not written.
func TestEntriesThatAreRefused(t *testing.T) {
	for what, change := range map[string]func(*capture.Entry){
		"no kind":               func(e *capture.Entry) { e.Kind = 0 },
		"no reason":             func(e *capture.Entry) { e.Why = 64 },
		"no part":               func(e *capture.Entry) { e.Parts = nil },
		"a long id":             func(e *capture.Entry) { e.Parts[0].Inference = string(make([]byte, 257)) },
		"a long text":           func(e *capture.Entry) { e.Error = string(make([]byte, 5000)) },
		"a time beyond":         func(e *capture.Entry) { e.Time = time.Unix(1<<40, 0) },
		"no type":               func(e *capture.Entry) { e.Inputs[0].DType = 99 },
		"rows that are missing": func(e *capture.Entry) { e.Parts = append(e.Parts, capture.Part{Rows: 7}) },
		"an unknown encoding":   func(e *capture.Entry) { e.AuxOutputs = []capture.Payload{{Encoding: 9}} },
		"both places":           func(e *capture.Entry) { e.Inputs[0].Beside = &capture.Beside{} },
	} {
		e := specimens()[0]
		change(e)
		if b, err := e.Append([]byte("x")); err == nil || string(b) != "x" {
			t.Errorf("%s: %v, and %d bytes were written", what, err, len(b)-1)
		}
	}
}
