// Package targets makes targets of benchmark suites of the libraries and servers of others, so that they take turns with Picket in
// one run, with the same model and rows, every answer compared. None is installed by a run, which would take minutes of it:
// bench/peers/install.sh NAME does that beforehand, and what is not there is left out with that sentence.
package targets

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/picket-ml/picket/bench/peers/servers"
	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/source"
	"github.com/picket-ml/picket/bench/target"
)

// Starters start all peers, one each.
func Starters() []target.Starter {
	list := libraries()
	for _, k := range servers.All() {
		list = append(list, startServer(k))
	}
	for _, name := range slices.Sorted(maps.Keys(neverThere)) {
		list = append(list, leaveOut(name, neverThere[name]))
	}
	return list
}

// neverThere are the libraries that are no targets, and why.
var neverThere = map[string]string{
	"ydf":         "only Python calls it here, through a pipe that would be measured with it; make bench-forest times it inside its process",
	"hummingbird": "it needs PyTorch, whose wheels for Linux bring CUDA with them: too large for the set-up of a benchmark",
}

// nothing is what a starter gives that was not wanted.
func nothing() *target.Group { return &target.Group{Close: func() error { return nil }} }

// leaveOut starts nothing, and says why where it was wanted.
func leaveOut(name, why string) target.Starter {
	return func(_ context.Context, _ string, _ []target.Served, wanted func(string) bool) (*target.Group, error) {
		g := nothing()
		if wanted(name) {
			g.LeftOut = []report.LeftOut{{Model: "all", Engine: name, Why: why}}
		}
		return g, nil
	}
}

// notInstalled says how to have a peer.
func notInstalled(name string) string {
	if source.Root() == "" {
		return "peers are measured from a checkout of Picket's source, and the working directory is in none"
	}
	return fmt.Sprintf("it is not installed; bench/peers/install.sh %s does that", name)
}

// usual is the first model that is to be served as it is: a server of others has one here.
func usual(served []target.Served) (target.Served, bool) {
	at := slices.IndexFunc(served, func(s target.Served) bool { return s.Backend == "" && s.Threads == 0 && s.BatchRows == 0 })
	if at < 0 {
		return target.Served{}, false
	}
	return served[at], true
}

// server is a server of others with one model.
type server struct {
	kind    servers.Kind
	running *servers.Running
	model   string

	text     sync.Once
	withText *protocols.Rows
}

func startServer(k servers.Kind) target.Starter {
	return func(ctx context.Context, dir string, served []target.Served, wanted func(string) bool) (*target.Group, error) {
		name := k.Folder
		if !wanted(name) {
			return nothing(), nil
		}
		if !k.Installed() {
			return leaveOut(name, notInstalled(name))(ctx, dir, served, wanted)
		}
		s, any := usual(served)
		if !any {
			return leaveOut(name, "no run has a model without options of Picket's own")(ctx, dir, served, wanted)
		}
		running, err := k.Start(dir, s.Model.File, s.Name())
		if err != nil {
			return nil, err
		}
		t := &server{kind: k, running: running, model: s.Name()}
		err = running.Answers(ctx, func(ctx context.Context) error {
			c, err := t.Connect(s, 1)
			if err != nil {
				return err
			}
			defer c.Close()
			c.Prepare(seeded())
			if err := c.Do(ctx); err != nil {
				return err
			}
			_, err = c.Check()
			return err
		})
		if err != nil {
			running.End()
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return leaveOut(name, err.Error())(ctx, dir, served, wanted)
		}
		return &target.Group{Targets: []target.Target{t}, Close: func() error { running.End(); return nil }}, nil
	}
}

func (t *server) Info() report.TargetInfo {
	i := report.TargetInfo{Name: t.kind.Folder, Kind: report.KindServer, Transport: "TCP loopback", Version: t.running.Version, Notes: t.kind.Name + ", the Open Inference Protocol's gRPC, a connection for each caller"}
	if !t.kind.GRPC {
		i.Notes = t.kind.Name + ", the Open Inference Protocol over HTTP/1.1 with JSON, a connection for each caller"
	}
	if strings.HasPrefix(t.address(), "/") {
		i.Transport = "Unix socket"
	}
	return i
}

func (t *server) address() string {
	if t.kind.GRPC {
		return t.running.GRPC
	}
	return t.running.HTTP
}

func (t *server) Process() *process.Server { return t.running.Server }

func (t *server) Variant(context.Context, target.Served) (string, error) { return "XGBoost", nil }

func (t *server) Connect(s target.Served, rows int) (protocols.Client, error) {
	if s.Name() != t.model {
		return nil, fmt.Errorf("%s was started with model %s alone", t.kind.Name, t.model)
	}
	ask := protocols.Ask{Address: t.address(), Model: t.model, Rows: s.Model.Rows, Count: rows}
	if t.kind.GRPC {
		return ask.OIP()
	}
	t.text.Do(func() { t.withText = s.Model.Rows.WithText() })
	ask.Rows = t.withText
	return ask.HTTP(protocols.JSON, protocols.Path(t.model))()
}
