package agent

import (
	"cmp"
	"context"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picket-ml/picket/engine"
	controlapi "github.com/picket-ml/picket/internal/api/control"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/internal/server/local"
)

// Daemon is what the control service says of the process it runs in.
type Daemon struct {
	Version string
	Started time.Time
	// HostJSON is the host as `picket info --json` prints it; nil for nothing.
	HostJSON func() []byte
	// Sockets are what the daemon listens on.
	Sockets []Socket
	// Declared gives the models that the configuration declares; nil for none.
	Declared func() []*controlapi.DeclaredModel
	// Reload reads the configuration again; nil where there is none. It fails where
	// that is wrong, with one line for each mistake.
	Reload func(context.Context) (*controlapi.ReloadResponse, error)
}

// Socket is one socket of the daemon.
type Socket struct {
	Protocol string // "agent", "oip", "lane" or "control"
	Path     string
}

// Control implements controlapi.ControlServer.
type Control struct {
	controlapi.UnimplementedControlServer

	engine *engine.Engine
	daemon Daemon
}

// newControl makes the control service of an engine.
func newControl(e *engine.Engine, d Daemon) *Control { return &Control{engine: e, daemon: d} }

// Explain implements controlapi.ControlServer.
func (c *Control) Explain(_ context.Context, in *controlapi.ExplainRequest) (*controlapi.ExplainResponse, error) {
	if len(in.GetName()) > maxNameBytes {
		return nil, errLongName
	}
	model, err := c.engine.Acquire(in.GetName())
	if err != nil {
		return nil, status.Error(failure.Code(err), failure.Shorten(err.Error(), failure.MaxSentence))
	}
	defer model.Release()
	d := model.Describe()
	out := &controlapi.ExplainResponse{Name: d.Name, Chosen: d.Backend, Gpus: d.Devices}
	for _, candidate := range d.Candidates {
		one := &controlapi.Candidate{
			Backend: candidate.Backend, Variant: failure.ValidText(candidate.Variant),
			Reason: failure.ValidText(candidate.Reason), Chosen: candidate.Chosen,
		}
		if candidate.USPerRow > 0 {
			one.UsPerRow = &candidate.USPerRow
		}
		out.Candidates = append(out.Candidates, one)
	}
	for _, s := range d.Options.Settings() {
		out.Settings = append(out.Settings, &controlapi.Setting{Key: s.Key, Value: s.Value})
	}
	out.Package = packageOf(d.Package)
	return out, nil
}

func packageOf(p *engine.Package) *controlapi.Package {
	if p == nil {
		return nil
	}
	out := &controlapi.Package{
		Name: failure.ValidText(p.Name), Version: failure.ValidText(p.Version), Digest: p.Digest, Signer: failure.ValidText(p.Signer),
	}
	for _, v := range p.Variants {
		out.Variants = append(out.Variants, &controlapi.PackageVariant{
			Name: failure.ValidText(v.Name), Chosen: v.Chosen, Reason: failure.ValidText(v.Reason),
		})
	}
	return out
}

// Stats implements controlapi.ControlServer.
func (c *Control) Stats(context.Context, *controlapi.StatsRequest) (*controlapi.StatsResponse, error) {
	out := &controlapi.StatsResponse{}
	for _, d := range c.engine.List() {
		model, err := c.engine.Acquire(d.Name)
		if err != nil {
			continue // unloaded since the list was made
		}
		out.Models = append(out.Models, modelStats(model.Describe(), model.Stats()))
		model.Release()
	}
	return out, nil
}

// errorReasons are the names of the service for the engine's kinds of failure.
var errorReasons = map[string]string{
	"input": "bad input", "busy": "queue full", "canceled": "cancelled", "run": "backend",
}

func modelStats(d engine.Description, s engine.Stats) *controlapi.ModelStats {
	m := &controlapi.ModelStats{
		Name: d.Name, Version: failure.ValidText(d.Version), Backend: d.Backend, Variant: failure.ValidText(d.Variant),
		State:       controlapi.ModelState_MODEL_STATE_READY,
		Requests:    s.Requests,
		Rows:        s.Rows,
		QueueLength: uint64(s.WaitingRequests),
		QueueRows:   uint64(s.WaitingRows),
		Batches:     s.Runs,
		BatchRows:   s.RunRows,
		InlineRuns:  s.InlineRuns,
		Latency:     quantiles(&s.Total),
		Instances:   uint32(d.Options.Instances),
		Gpus:        d.Devices,
	}
	if d.Package != nil {
		m.Digest = d.Package.Digest
	}
	for name, count := range s.Failed {
		if count == 0 {
			continue
		}
		if reason, ok := errorReasons[name]; ok {
			name = reason
		}
		m.Errors = append(m.Errors, &controlapi.ErrorCount{Reason: name, Count: count})
	}
	slices.SortFunc(m.Errors, func(a, b *controlapi.ErrorCount) int { return cmp.Compare(a.Reason, b.Reason) })
	return m
}

func quantiles(h *engine.Histogram) *controlapi.LatencyQuantiles {
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	q := &controlapi.LatencyQuantiles{
		Count: h.Count,
		P50Us: us(h.Quantile(0.5)), P90Us: us(h.Quantile(0.9)), P99Us: us(h.Quantile(0.99)), P999Us: us(h.Quantile(0.999)),
		MaxUs: us(h.Quantile(1)),
	}
	if h.Count > 0 {
		q.MeanUs = us(h.Sum) / float64(h.Count)
	}
	return q
}

// Info implements controlapi.ControlServer.
func (c *Control) Info(context.Context, *controlapi.InfoRequest) (*controlapi.InfoResponse, error) {
	out := &controlapi.InfoResponse{
		Version: c.daemon.Version, Pid: int64(os.Getpid()), UptimeSeconds: time.Since(c.daemon.Started).Seconds(),
	}
	if c.daemon.HostJSON != nil {
		if out.HostJson = c.daemon.HostJSON(); out.HostJson == nil {
			return nil, status.Error(codes.Internal, "describing the host failed; the reason is in the daemon's log")
		}
	}
	for _, s := range c.daemon.Sockets {
		out.Sockets = append(out.Sockets, &controlapi.Socket{Protocol: s.Protocol, Path: failure.ValidText(s.Path)})
	}
	if c.daemon.Declared != nil {
		out.Declared = c.daemon.Declared()
		for _, m := range out.Declared {
			m.Path, m.Reason = failure.ValidText(m.GetPath()), failure.Shorten(m.GetReason(), failure.MaxSentence)
		}
	}
	return out, nil
}

// maxMistakes is the most bytes of a configuration's mistakes that a client is told; the
// log has them all.
const maxMistakes = 8 << 10

// Reload implements controlapi.ControlServer.
func (c *Control) Reload(ctx context.Context, _ *controlapi.ReloadRequest) (*controlapi.ReloadResponse, error) {
	if err := local.CheckControl(ctx); err != nil {
		return nil, status.Error(failure.Code(err), err.Error())
	}
	if c.daemon.Reload == nil {
		return nil, status.Error(codes.Unimplemented, "there is no configuration to read again")
	}
	out, err := c.daemon.Reload(ctx)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, failure.Shorten(err.Error(), maxMistakes))
	}
	for _, m := range out.GetModels() {
		m.Error = failure.Shorten(m.GetError(), failure.MaxSentence)
	}
	return out, nil
}
