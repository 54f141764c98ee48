// Package target has what a suite measures: Picket in this process and over each of its sockets, and the target that does nothing.
// Libraries and servers of others come in through the same interface.
package target

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
)

// Model is a model that is measured.
type Model struct {
	report.ModelInfo
	// Dir is a folder that holds just File, the model as its trainer wrote it.
	Dir, File string
	// Rows are those that targets are asked about, with the reference's answers and as text.
	Rows *protocols.Rows
}

// Served is a model as a run wants it to be served.
type Served struct {
	Model *Model
	// Backend is "" where the engine is to choose; targets of others leave out what names one.
	Backend            string
	Threads, BatchRows int // 0 is the target's default
}

// Name is what servers know it by: the model's name, with what is not as usual.
func (s Served) Name() string {
	var name strings.Builder
	name.WriteString(s.Model.Name)
	if s.Backend != "" {
		name.WriteString("-" + s.Backend)
	}
	if s.Threads != 0 {
		fmt.Fprintf(&name, "-threads%d", s.Threads)
	}
	if s.BatchRows != 0 {
		fmt.Fprintf(&name, "-batch%d", s.BatchRows)
	}
	return name.String()
}

// Target answers predictions. It is started with all models that will be asked for, and used by one goroutine at a time but for the
// Clients that it gives.
type Target interface {
	Info() report.TargetInfo
	// Connect gives a client whose requests are of so many rows of the model. It fails with an error that says why where the
	// target cannot serve it so.
	Connect(s Served, rows int) (protocols.Client, error)
	// Variant says what runs the model: "forest (avx512vbmi row)".
	Variant(ctx context.Context, s Served) (string, error)
	// Process is the target's own, which rests while others are measured; nil in this process.
	Process() *process.Server
}

// Group is targets that were started together. Close ends them; it is called once.
type Group struct {
	Targets []Target
	LeftOut []report.LeftOut
	Close   func() error
}

// Starter starts targets of one kind, of those whose names wanted reports, with a folder of their own for sockets and files. What
// cannot be had on this machine is left out with the reason; an error is about what should have worked.
type Starter func(ctx context.Context, dir string, served []Served, wanted func(name string) bool) (*Group, error)

// PhaseTimes is what a server has told of its requests so far, by phase.
type PhaseTimes map[string]struct{ Seconds, Count float64 }

// Phased is a Target that tells how long the phases of its requests take.
type Phased interface {
	Phases(ctx context.Context, s Served) (PhaseTimes, error)
}

// Renewable is a Target in this process that can be started anew between repetitions, with the same models.
type Renewable interface {
	Renew(ctx context.Context) error
}

// empty is the target that does nothing.
type empty struct{ version string }

// StartEmpty starts the empty target, which shows how fast the generator of loads is.
func StartEmpty(version string) Starter {
	return func(_ context.Context, _ string, _ []Served, wanted func(string) bool) (*Group, error) {
		g := &Group{Close: func() error { return nil }}
		if wanted("empty") {
			g.Targets = []Target{empty{version}}
		}
		return g, nil
	}
}

func (e empty) Info() report.TargetInfo {
	return report.TargetInfo{Name: "empty", Kind: report.KindEmpty, Transport: "call", Version: e.version, Notes: "answers nothing, at once: what the generator of loads can do"}
}
func (empty) Connect(Served, int) (protocols.Client, error)   { return nothing{}, nil }
func (empty) Variant(context.Context, Served) (string, error) { return "nothing", nil }
func (empty) Process() *process.Server                        { return nil }

type nothing struct{}

var _ io.Closer = nothing{}

func (nothing) Prepare(*rand.Rand)       {}
func (nothing) Do(context.Context) error { return nil }
func (nothing) Check() (int, error)      { return 0, nil }
func (nothing) Close() error             { return nil }
