package device

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/edge"
)

// result is what became of a model under a rollout.
func result(w fleet.Wanted, status, reason, rollback string, at time.Time) *edge.DeploymentResult {
	now := edge.Time{Time: at}
	m := edge.DeploymentModel{
		ModelHandle: w.Model, ModelName: w.Package.Name, ModelVersion: w.Package.Version, DesiredState: edge.Deploy, State: edge.Deploy,
		StatusReason: cut(reason), RollbackFailureReason: cut(rollback),
	}
	r := &edge.DeploymentResult{DeploymentName: w.ID, DeploymentStatus: status, DeploymentStatusMessage: cut(reason)}
	switch status {
	case edge.Success:
		m.Status = edge.Success
		r.DeploymentEndTime = &now
	case edge.Fail:
		m.Status, m.State = edge.Fail, edge.Undeploy
		r.DeploymentEndTime = &now
	default:
		r.DeploymentStartTime = &now
	}
	r.DeploymentModels = []edge.DeploymentModel{m}
	return r
}

// report tells the server how the device does, and what became of rollouts, one at a
// time. What it was not told is kept.
func (a *Agent) report(ctx context.Context, problem error) error {
	if a.o.Client == nil {
		for _, m := range a.state.Models {
			m.Reports = nil
		}
		return nil
	}
	device := edge.Device{Name: a.o.Name, Fleet: a.o.Fleet}
	if a.now().After(a.registered) {
		r, err := a.o.Client.Registration(ctx, device)
		if err != nil {
			return err
		}
		seconds, err := strconv.Atoi(r.CacheTTL)
		if err != nil || seconds < 60 || seconds > 24*3600 {
			seconds = 3600
		}
		a.registered = a.now().Add(time.Duration(seconds) * time.Second)
		var said struct{ Group string }
		if json.Unmarshal([]byte(r.DeviceRegistration), &said) == nil && said.Group != "" && said.Group != a.o.Group {
			a.log.Warn("the fleet has this device in another group than its configuration", "fleet", said.Group, "configuration", a.o.Group)
		}
	}
	for {
		h, of := a.heartbeat(device, problem)
		if err := a.o.Client.Heartbeat(ctx, h); err != nil {
			return err
		}
		if of == nil {
			return nil
		}
		of.Reports = of.Reports[1:]
		if err := a.save(); err != nil {
			return err
		}
		if !a.unreported() {
			return nil
		}
	}
}

func (a *Agent) unreported() bool {
	for _, m := range a.state.Models {
		if len(m.Reports) > 0 {
			return true
		}
	}
	return false
}

var notAgent = regexp.MustCompile(`[^a-zA-Z0-9 _.]+`)

// heartbeat is the next one, with a result if there is one that was not reported, and
// whose that is.
func (a *Agent) heartbeat(device edge.Device, problem error) (*edge.Heartbeat, *modelState) {
	now := edge.Time{Time: a.now()}
	version := strings.TrimSpace(notAgent.ReplaceAllString("picketd "+a.o.Version, "."))
	h := &edge.Heartbeat{Device: device, AgentVersion: version[:min(len(version), 64)]}
	metric := func(name string, value float64) edge.Metric {
		return edge.Metric{Dimension: edge.OurDimension, MetricName: name, Value: value, Timestamp: &now}
	}
	flag := func(is bool) float64 {
		if is {
			return 1
		}
		return 0
	}
	h.AgentMetrics = []edge.Metric{
		metric(edge.MetricExpired, flag(errors.Is(problem, fleet.ErrExpired))), metric(edge.MetricProblem, flag(problem != nil)),
		metric(edge.MetricClock, a.o.Client.ClockError().Seconds()),
	}
	var of *modelState
	for _, name := range a.state.names() {
		m := a.state.Models[name]
		if of == nil && len(m.Reports) > 0 {
			of, h.DeploymentResult = m, m.Reports[0]
		}
		if m.Serving == nil || m.unloaded {
			continue
		}
		model := edge.Model{ModelName: name, ModelVersion: m.Serving.Version}
		if s, ok := a.o.Loader.Stats(name); ok {
			model.ModelMetrics = []edge.Metric{
				metric(edge.MetricRequests, float64(s.Requests)), metric(edge.MetricFailures, float64(s.Failed)), metric(edge.MetricP99, float64(s.P99.Microseconds())),
			}
			if !s.Latest.IsZero() {
				model.LatestInference = &edge.Time{Time: s.Latest}
			}
		}
		h.Models = append(h.Models, model)
	}
	return h, of
}
