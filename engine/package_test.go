package engine_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/tensor"
)

// packed is a source whose every artifact is of that package.
type packed struct {
	enginetest.Source
	from *engine.Package
}

func (p packed) Open(ctx context.Context, url string) (*engine.Artifact, error) {
	a, err := p.Source.Open(ctx, url)
	if err == nil {
		a.Package = p.from
	}
	return a, err
}

// warmup is rows of the fake model, each the one before plus 1, with its answers plus bias.
func warmup(rows int, bias float32) *engine.Warmup {
	var in, out []byte
	put := func(b []byte, v float32) []byte { return binary.LittleEndian.AppendUint32(b, math.Float32bits(v)) }
	for r := range rows {
		sum := float32(0)
		for c := range enginetest.Columns {
			v := float32(r + c)
			in, sum = put(in, v), sum+v
		}
		out = put(out, sum+bias)
	}
	return &engine.Warmup{Rows: rows, Data: append(in, out...)}
}

func fakeSignature(name string) *engine.Signature {
	return &engine.Signature{
		Inputs:  []engine.TensorSpec{{Name: name, DType: tensor.FP32, Dims: []int64{engine.Variable, enginetest.Columns}}},
		Outputs: []engine.TensorSpec{{Name: "score", DType: tensor.FP32, Dims: []int64{engine.Variable, 1}}},
	}
}

func TestModelsProveTheirPackage(t *testing.T) {
	cut := warmup(4, 0)
	cut.Data = cut.Data[:len(cut.Data)-1]
	long := warmup(4, 0)
	long.Data = append(long.Data, 0)
	for name, c := range map[string]struct {
		p    engine.Package
		says string // empty where it is loaded
	}{
		"nothing said":         {engine.Package{}, ""},
		"the same tensors":     {engine.Package{Signature: fakeSignature("data")}, ""},
		"the answers":          {engine.Package{Signature: fakeSignature("data"), Warmup: warmup(4, 0)}, ""},
		"more than a batch":    {engine.Package{Warmup: warmup(200, 0)}, ""},
		"other tensors":        {engine.Package{Signature: fakeSignature("rows")}, "other tensors than its package says"},
		"other answers":        {engine.Package{Warmup: warmup(4, 1)}, `run by fake, does not give the answers that its package expects to its warm-up rows: 4 of 4 numbers of output "score"`},
		"answers cut short":    {engine.Package{Warmup: cut}, "fewer expected answers"},
		"rows cut short":       {engine.Package{Warmup: &engine.Warmup{Rows: 4, Data: make([]byte, 7)}}, "fewer warm-up rows"},
		"something more":       {engine.Package{Warmup: long}, "more warm-up rows"},
		"no rows":              {engine.Package{Warmup: &engine.Warmup{}}, "do not fit the model"},
		"what may not be said": {engine.Package{Accept: func() error { return errors.New("the disk is full") }}, "the disk is full"},
	} {
		for _, properties := range []engine.Properties{inline, {}} {
			b := enginetest.New(enginetest.Script{Properties: properties})
			accepted, p := 0, c.p
			if p.Accept == nil {
				p.Accept = func() error { accepted++; return nil }
			}
			e := newEngine(t, engine.Options{Source: packed{enginetest.Source{Dir: t.TempDir()}, &p}}, b)
			d, err := e.Load(t.Context(), "model", "somewhere", engine.ModelOptions{})
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want one that says %q", name, err, c.says)
			}
			if err == nil && (d.Package != &p || accepted == 0) {
				t.Errorf("%s: the description has the package %+v, accepted %d times", name, d.Package, accepted)
			}
			if err != nil && (accepted > 0 || len(e.List()) > 0) {
				t.Errorf("%s: it was refused, accepted %d times, and %d models are there", name, accepted, len(e.List()))
			}
			if err == nil {
				m, err := e.Acquire("model")
				if err != nil {
					t.Fatal(err)
				}
				if s := m.Stats(); s.Requests != 0 || s.Rows != 0 {
					t.Errorf("%s: the warm-up rows are counted as %d requests", name, s.Requests)
				}
				m.Release()
			}
		}
	}
}

// A model that does not prove its package leaves the one in place that it was to replace.
func TestReplacementThatDoesNotProveItself(t *testing.T) {
	b := enginetest.New(enginetest.Script{Properties: inline})
	p := &engine.Package{Version: "1", Warmup: warmup(4, 0)}
	source := packed{enginetest.Source{Dir: t.TempDir()}, p}
	e := newEngine(t, engine.Options{Source: &source}, b)
	load(t, e, "model", engine.ModelOptions{})
	source.from = &engine.Package{Version: "2", Warmup: warmup(4, 1), Accept: func() error {
		t.Error("it was accepted")
		return nil
	}}
	if _, err := e.Replace(t.Context(), "model", "somewhere", engine.ModelOptions{}); !errors.Is(err, engine.ErrArtifact) {
		t.Errorf("%v, want %v", err, engine.ErrArtifact)
	}
	if d := e.List()[0]; d.Version != "1" || d.Package != p {
		t.Errorf("version %s serves, want 1", d.Version)
	}
}
