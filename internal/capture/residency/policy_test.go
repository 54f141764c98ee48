package residency

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/capture/format"
	"github.com/picket-ml/picket/tensor"
)

var testSalt = []byte("0123456789abcdef0123456789abcdef")

func floats(values ...float32) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func table(name string, columns int, values ...float32) format.Tensor {
	return format.Tensor{Name: name, DType: tensor.FP32, Shape: []int64{int64(len(values) / columns), int64(columns)}, Data: floats(values...)}
}

// shown is a tensor as text: its columns, and its rows.
func shown(t *format.Tensor) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%v", t.Name, t.Shape)
	rows, columns, ok := t.Table()
	if !ok {
		return fmt.Sprintf("%s %x", b.String(), t.Data)
	}
	for c := range columns {
		fmt.Fprintf(&b, " %s=", t.Columns[c].Name)
		for r := range rows {
			if r > 0 {
				b.WriteByte('/')
			}
			if text := t.Columns[c].Text; text != nil {
				fmt.Fprintf(&b, "%.4s", text[r])
			} else {
				b.Write(format.AppendElement(nil, t.Element(r*columns+c), t.DType))
			}
		}
	}
	return b.String()
}

func TestFeatures(t *testing.T) {
	nan := float32(math.NaN())
	rule := ModelRule{
		Model: "m", Samples: true, Columns: []string{"a", "b", "c", "d", "e"}, Otherwise: Drop, Outputs: Drop, IDs: Allow,
		Features: []FeatureRule{
			{Feature: "a", Action: Allow},
			{Feature: "1", Action: Bucket, Bounds: []float64{0, 10, 100}},
			{Feature: "c", Action: Truncate, Digits: -1},
			{Feature: "d", Action: Hash},
			{Tensor: "score", Feature: "0", Action: Truncate, Digits: 1},
		},
	}
	p, err := New(Options{Models: []ModelRule{rule}, Salt: testSalt})
	if err != nil {
		t.Fatal(err)
	}
	r := format.Record{
		Model: "m", ID: "id", Inputs: []format.Tensor{
			table("x", 5, 1, 7, 123, 5, 666, 2, -3, -19, nan, 666, nan, nan, nan, 5, 666, 4, 100, 9, 6, 666),
			table("other", 1, 666, 666, 666, 666),
		},
		Outputs:         []format.Tensor{table("score", 2, 0.19, 666, 0.99, 666, -0.19, 666, 0.3, 666)},
		AuxiliaryInputs: []format.Auxiliary{{Name: "picture", Data: []byte("666")}},
	}
	if err := p.Apply(&r); err != nil {
		t.Fatal(err)
	}
	hash := func(v string) string { return p.keyed("value", "m", "d", v)[:4] }
	want := "x[4 4] a=1/2/nan/4 b=0/0/nan/100 c=120/-10/nan/0 d=" + hash("5") + "//" + hash("5") + "/" + hash("6")
	if len(r.Inputs) != 1 || shown(&r.Inputs[0]) != want {
		t.Errorf("inputs are\n%s, want\n%s", shown(&r.Inputs[0]), want)
	}
	if got, want := shown(&r.Outputs[0]), "score[4 1] score_0=0.1/0.9/-0.1/0.3"; got != want {
		t.Errorf("outputs are %s, want %s", got, want)
	}
	if r.AuxiliaryInputs != nil {
		t.Error("auxiliary data leave that no rule allows")
	}
	// What was hashed or dropped is nowhere in the bytes, not even beyond their end.
	for _, tensor := range append(r.Inputs, r.Outputs...) {
		all := string(tensor.Data[:cap(tensor.Data)])
		if strings.Contains(all, string(floats(666))) || strings.Contains(all, string(floats(5))) {
			t.Errorf("%s still holds what must not leave: %x", tensor.Name, all)
		}
	}
}

func TestIDs(t *testing.T) {
	p, err := New(Options{Salt: testSalt, Models: []ModelRule{{Model: AnyModel, Samples: true, Truth: Allow}}})
	if err != nil {
		t.Fatal(err)
	}
	capture := format.Record{Model: "m", ID: "card 4711", InferenceID: "card 4711"}
	truth := format.Record{Model: "m", ID: "card 4711", Truth: &format.Truth{Data: "1"}}
	for _, r := range []*format.Record{&capture, &truth} {
		if err := p.Apply(r); err != nil {
			t.Fatal(err)
		}
	}
	if capture.ID != truth.ID || capture.ID != capture.InferenceID || strings.Contains(capture.ID, "4711") || len(capture.ID) != 32 {
		t.Errorf("a capture is %q (%q) and its outcome %q", capture.ID, capture.InferenceID, truth.ID)
	}
	other, err := New(Options{Salt: append([]byte("x"), testSalt...), Models: []ModelRule{{Model: AnyModel, Samples: true}}})
	if err != nil {
		t.Fatal(err)
	}
	again := format.Record{Model: "m", ID: "card 4711"}
	if err := other.Apply(&again); err != nil || again.ID == capture.ID {
		t.Errorf("another key gives %q (%v)", again.ID, err)
	}
	if p.Digest() == other.Digest() || strings.Contains(string(p.Text()), string(testSalt)) {
		t.Error("the key is not among what tells policies apart, or is told")
	}
}

func TestWithheld(t *testing.T) {
	allow := ModelRule{Model: "m", Samples: true, Otherwise: Allow, Outputs: Allow, IDs: Allow}
	with := func(change func(*ModelRule)) ModelRule {
		r := allow
		change(&r)
		return r
	}
	input := func(shape ...int64) format.Record {
		n := int64(4)
		for _, d := range shape {
			n *= d
		}
		return format.Record{Model: "m", Inputs: []format.Tensor{{Name: "x", DType: tensor.FP32, Shape: shape, Data: make([]byte, n)}}}
	}
	for name, c := range map[string]struct {
		rules  []ModelRule
		record format.Record
		want   string // empty: it leaves
	}{
		"no rule":                     {nil, input(1, 2), "not allowed"},
		"metrics only":                {[]ModelRule{with(func(r *ModelRule) { r.Samples = false })}, input(1, 2), "not allowed"},
		"another model's rule":        {[]ModelRule{with(func(r *ModelRule) { r.Model = "n" })}, input(1, 2), "not allowed"},
		"everything":                  {[]ModelRule{allow}, input(1, 2), ""},
		"a picture as a whole":        {[]ModelRule{allow}, input(1, 2, 3, 4), ""},
		"more columns than named":     {[]ModelRule{with(func(r *ModelRule) { r.Columns = []string{"a"} })}, input(1, 2), "names 1 columns"},
		"a rule beyond the columns":   {[]ModelRule{with(func(r *ModelRule) { r.Features = []FeatureRule{{Feature: "2", Action: Drop}} })}, input(1, 2), "rule for column 2"},
		"a rule for a picture":        {[]ModelRule{with(func(r *ModelRule) { r.Features = []FeatureRule{{Feature: "2", Action: Drop}} })}, input(1, 2, 3), "no table"},
		"a picture to be hashed":      {[]ModelRule{with(func(r *ModelRule) { r.Features = []FeatureRule{{Tensor: "x", Action: Truncate}} })}, input(1, 2, 3), "no table"},
		"an outcome that is dropped":  {[]ModelRule{allow}, format.Record{Model: "m", Truth: &format.Truth{}}, "outcomes"},
		"bytes that fit no shape":     {[]ModelRule{with(func(r *ModelRule) { r.Features = []FeatureRule{{Feature: "0", Action: Drop}} })}, format.Record{Model: "m", Inputs: []format.Tensor{{Name: "x", DType: tensor.FP32, Shape: []int64{1, 2}, Data: []byte("odd")}}}, "no table"},
		"such bytes where all may go": {[]ModelRule{allow}, format.Record{Model: "m", Inputs: []format.Tensor{{Name: "x", DType: tensor.FP32, Shape: []int64{1, 2}, Data: []byte("odd")}}}, ""},
	} {
		p, err := New(Options{Models: c.rules, Salt: testSalt})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		err = p.Apply(&c.record)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrWithheld) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestPolicyMistakes(t *testing.T) {
	model := func(m ModelRule) Options {
		m.Model, m.Samples, m.IDs = "m", true, Allow
		return Options{Models: []ModelRule{m}}
	}
	feature := func(f FeatureRule) Options {
		return model(ModelRule{Columns: []string{"a", "b"}, Features: []FeatureRule{f}})
	}
	for want, o := range map[string]Options{
		"models[0].features[0].feature: \"x\" is unknown: it is not among columns":         feature(FeatureRule{Feature: "x", Action: Drop}),
		"models[0].features[0].feature: there is no column 2":                              feature(FeatureRule{Feature: "2", Action: Drop}),
		"models[0].features[0].feature: is empty":                                          feature(FeatureRule{Action: Drop}),
		"models[0].features[0]: action: \"\" is none":                                      feature(FeatureRule{Feature: "a"}),
		"models[0].features[0]: bounds: are missing":                                       feature(FeatureRule{Feature: "a", Action: Bucket}),
		"models[0].features[0]: bounds[1]: 1 is not above":                                 feature(FeatureRule{Feature: "a", Action: Bucket, Bounds: []float64{1, 1}}),
		"models[0].features[0]: digits: 16 is outside":                                     feature(FeatureRule{Feature: "a", Action: Truncate, Digits: 16}),
		"models[0].features[0]: digits: are for truncate":                                  feature(FeatureRule{Feature: "a", Action: Drop, Digits: 1}),
		"key: values or ids of requests are hashed, which takes a file":                    feature(FeatureRule{Feature: "a", Action: Hash}),
		"models[0].features[1].feature: there is a rule for it already":                    model(ModelRule{Columns: []string{"a"}, Features: []FeatureRule{{Feature: "a", Action: Drop}, {Feature: "0", Action: Allow}}}),
		"models[0].features[0].feature: \"a\" is unknown, as columns does not name any":    model(ModelRule{Features: []FeatureRule{{Feature: "a", Action: Drop}}}),
		"models[0].columns[1]: \"a\" is named twice":                                       model(ModelRule{Columns: []string{"a", "a"}}),
		"models[0].columns[0]: \"7\" is a number":                                          model(ModelRule{Columns: []string{"7"}}),
		"models[0].otherwise: \"hash\" is neither drop nor allow":                          model(ModelRule{Otherwise: Hash}),
		"models[1].model: m has a rule already":                                            {Models: []ModelRule{{Model: "m"}, {Model: "m"}}},
		"destinations[0]: give either bucket or directory":                                 {Destinations: []Destination{{Region: "eu-central-1"}}},
		"destinations[0]: account: \"12\" is no number of 12 digits":                       {Destinations: []Destination{{Bucket: "bank", Account: "12"}}},
		"destinations[0]: bucket: \"Bank\" is neither":                                     {Destinations: []Destination{{Bucket: "Bank"}}},
		"destinations[0]: directory: \"/a/../b\" is no absolute path in its shortest form": {Destinations: []Destination{{Directory: "/a/../b"}}},
		"destinations[0]: outpost: \"op-1\" is no ARN of an Outpost":                       {Destinations: []Destination{{Bucket: "bank", Outpost: "op-1"}}},
		"k: -1 is outside": {K: -1},
		"models[0].features[0].feature: \"a\" is unknown: columns names those of the first": model(ModelRule{Columns: []string{"a"}, Features: []FeatureRule{{Tensor: "x", Feature: "a", Action: Drop}}}),
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestDestinations(t *testing.T) {
	const (
		point   = "arn:aws:s3-outposts:eu-central-1:123456789012:outpost/op-0123/accesspoint/capture"
		outpost = "arn:aws:outposts:eu-central-1:123456789012:outpost/op-0123"
	)
	for _, c := range []struct {
		allowed []Destination
		to      Destination
		ok      bool
	}{
		{nil, Destination{Bucket: "bank"}, false},
		{[]Destination{{Bucket: "bank"}}, Destination{Bucket: "bank", Account: "1", Region: "x"}, true},
		{[]Destination{{Bucket: "bank"}}, Destination{Bucket: "bank2"}, false},
		{[]Destination{{Bucket: "bank", Account: "123456789012"}}, Destination{Bucket: "bank"}, false},
		{[]Destination{{Bucket: "bank", Account: "123456789012"}}, Destination{Bucket: "bank", Account: "123456789012"}, true},
		{[]Destination{{Bucket: "bank", Region: "eu-central-1"}}, Destination{Bucket: "bank", Region: "us-east-1"}, false},
		{[]Destination{{Bucket: point, Outpost: outpost}}, Destination{Bucket: point}, true},
		{[]Destination{{Bucket: point, Outpost: strings.Replace(outpost, "0123", "9", 1) + "9"}}, Destination{Bucket: point}, false},
		{[]Destination{{Bucket: point, Region: "us-east-1"}}, Destination{Bucket: point, Region: "us-east-1"}, false},
		{[]Destination{{Directory: "/srv/capture"}}, Destination{Directory: "/srv/capture/a"}, true},
		{[]Destination{{Directory: "/srv/capture"}}, Destination{Directory: "/srv/captured"}, false},
		{[]Destination{{Directory: "/srv/capture"}}, Destination{Bucket: "bank"}, false},
	} {
		p, err := New(Options{Destinations: c.allowed})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.MayGo(c.to); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrWithheld) {
			t.Errorf("%+v to %+v: %v", c.allowed, c.to, err)
		}
	}
}

// No bucket that is published has fewer than K observations, and what was taken out is
// never one bucket of them.
func TestHistogram(t *testing.T) {
	for _, c := range []struct {
		k        int
		in, want []uint64
		withheld uint64
	}{
		{0, []uint64{1, 2}, []uint64{1, 2}, 0},
		{10, []uint64{0, 10, 100}, []uint64{0, 10, 100}, 0},
		{10, []uint64{3, 10, 100}, []uint64{0, 0, 100}, 13},
		{10, []uint64{5, 6, 100}, []uint64{0, 0, 100}, 11},
		{10, []uint64{1}, []uint64{0}, 1},
	} {
		p, err := New(Options{K: c.k})
		if err != nil {
			t.Fatal(err)
		}
		got := append([]uint64(nil), c.in...)
		if withheld := p.Histogram(got); withheld != c.withheld || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%v with k %d is %v and %d withheld, want %v and %d", c.in, c.k, got, withheld, c.want, c.withheld)
		}
	}
}
