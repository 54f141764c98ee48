//go:build cgo && linux

package targets

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/peers"
	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/target"
	"github.com/picket-ml/picket/tensor"
)

// called are the libraries that are called in this process, by the names of their targets; one is for a single caller.
var called = []struct {
	name, peer string
	single     bool
	notes      string
}{
	{"libdlr", "libdlr, picket compile", true, "libdlr 1.6.0 with what picket compile makes of the model; it is for one caller at a time"},
	{"tl2cgen", "TL2cgen", false, "the library that TL2cgen compiles of the model, called row by row"},
	{"lleaves", "lleaves", false, "the library that lleaves compiles of the model"},
	{"xgboost", "XGBoost", false, "its C API, one thread a caller"},
	{"lightgbm", "LightGBM", false, "its C API, one thread a caller"},
	{"onnxruntime", "ONNX Runtime", false, "its C API, one thread a caller"},
	{"gtil", "GTIL", false, "Treelite's interpreter, through its C API"},
	{"onedal", "oneDAL", false, "its C++ interface, in single precision, with what daal4py makes of the model; one thread a caller"},
}

func libraries() []target.Starter {
	var list []target.Starter
	all := peers.All()
	for _, c := range called {
		p := all[slices.IndexFunc(all, func(p *peers.Peer) bool { return p.Name == c.peer })]
		list = append(list, func(ctx context.Context, dir string, served []target.Served, wanted func(string) bool) (*target.Group, error) {
			if !wanted(c.name) {
				return nothing(), nil
			}
			if !peers.Installed() {
				return leaveOut(c.name, notInstalled(c.name))(ctx, dir, served, wanted)
			}
			t := &library{ctx: ctx, name: c.name, notes: c.notes, peer: p, single: c.single}
			return &target.Group{Targets: []target.Target{t}, Close: func() error { return nil }}, nil
		})
	}
	return list
}

// library is a library of others in this process.
type library struct {
	ctx         context.Context // of the suite: opening may convert the model
	name, notes string
	peer        *peers.Peer
	single      bool
	callers     atomic.Int32
}

func (t *library) Info() report.TargetInfo {
	return report.TargetInfo{Name: t.name, Kind: report.KindInProcess, Transport: "call", Version: peers.Version(t.name), Notes: t.notes}
}

func (t *library) Process() *process.Server { return nil }

func (t *library) Variant(context.Context, target.Served) (string, error) { return t.peer.Name, nil }

// Connect opens the model anew for each caller: not all libraries can be called at once.
func (t *library) Connect(s target.Served, rows int) (_ protocols.Client, err error) {
	if t.single && t.callers.Add(1) > 1 {
		t.callers.Add(-1)
		return nil, fmt.Errorf("%s is for one caller at a time", t.name)
	}
	c := &libraryClient{of: t, Ask: protocols.Ask{Model: s.Name(), Rows: s.Model.Rows, Count: rows}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if s.Model.Outputs != 1 {
		return nil, fmt.Errorf("the model gives %d values a row, and peers are asked for one", s.Model.Outputs)
	}
	digest := s.Model.Digest
	spec := models.Spec{
		Name: s.Model.Name + "-" + digest[:min(12, len(digest))], Library: s.Model.Library, Trees: s.Model.Trees, Size: s.Model.Depth, Features: s.Model.Features, Classes: 2, File: s.Model.File,
	}
	values, err := tensor.View[float32](s.Model.Rows.Data)
	if err != nil {
		return nil, err
	}
	if len(values)%(2*spec.Features) != 0 {
		return nil, errors.New("peers take an even number of rows")
	}
	if c.rows, err = peers.NewRows(spec, values); err != nil {
		return nil, err
	}
	if c.instance, err = t.peer.Open(t.ctx, peers.Task{Model: spec, Rows: c.rows, Threads: 1}); err != nil {
		return nil, &sentence{err}
	}
	return c, nil
}

// sentence is an error of a library without the time of day and the stack that some put into theirs: the same every time.
type sentence struct{ error }

var timeOfDay = regexp.MustCompile(`\[\d\d:\d\d:\d\d\] `)

func (s *sentence) Error() string {
	first, _, _ := strings.Cut(s.error.Error(), "\n")
	return timeOfDay.ReplaceAllString(first, "")
}

func (s *sentence) Unwrap() error { return s.error }

// libraryClient is a caller.
type libraryClient struct {
	protocols.Ask
	of       *library
	rows     *peers.Rows
	instance *peers.Instance
	first    int
}

func (c *libraryClient) Prepare(random *rand.Rand) { c.first, _ = c.Choose(random) }

func (c *libraryClient) Do(context.Context) error {
	_, err := c.instance.Run(c.first, c.Count)
	return err
}

// Check allows what the peer's own rounding makes of an answer, as make bench-forest does.
func (c *libraryClient) Check() (int, error) {
	got, err := c.rows.Written(c.first, c.Count)
	if err != nil {
		return 0, err
	}
	for i, v := range got {
		if want := c.Rows.Answers[c.first+i]; !(math.Abs(float64(v)-float64(want)) <= c.of.peer.Tolerance) { // nor NaN
			return 0, fmt.Errorf("%w: row %d is answered with %v, the reference has %v", protocols.ErrWrong, c.first+i, v, want)
		}
	}
	return 4 * len(got), nil
}

func (c *libraryClient) Close() error {
	var err error
	if c.instance != nil {
		err = c.instance.Close()
	}
	if c.rows != nil {
		err = errors.Join(err, c.rows.Close())
	}
	if c.of.single {
		c.of.callers.Add(-1)
	}
	return err
}
