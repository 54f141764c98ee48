// Package serve is a fleet's server: it answers devices over the old API, keeps what
// they report, and watches over rollouts, which it takes further or back. It has no say
// in what devices run: that is in the documents, which it cannot sign but for how far a
// rollout may go.
package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/edge"
)

// Options are those of New.
type Options struct {
	Bucket fleet.Bucket
	// Root is a root document of the fleet.
	Root []byte
	// Keys has the online key, with which rollouts go on by themselves; without it they
	// stay where they are.
	Keys fleet.Keys
	// Dir is where everything is kept; it is made if it is not there.
	Dir string
	// Interval is how often documents and rollouts are looked at.
	Interval time.Duration
	Log      *slog.Logger
	Now      func() time.Time // time.Now, or a test's
}

// Server keeps what a fleet's devices report and watches over its rollouts. Its methods
// may be called by many goroutines at once, but for Run.
type Server struct {
	o         Options
	log       *slog.Logger
	now       func() time.Time
	reader    *fleet.Reader
	publisher *fleet.Publisher // nil without the online key
	records   *records
	view      atomic.Pointer[view]
}

// view is what the documents say. It is never changed.
type view struct {
	devices  *fleet.Devices
	groups   map[string]*fleet.Group
	progress map[string]*fleet.Progress
	versions map[string]fleet.Version
	read     time.Time
	problem  string
}

// cacheTTL is how long a device may believe its registration, in seconds.
const cacheTTL = "3600"

// New opens what the server has kept and reads the documents. The caller closes it.
func New(ctx context.Context, o Options) (*Server, error) {
	s := &Server{o: o, log: o.Log, now: o.Now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	var err error
	if s.records, err = openRecords(o.Dir); err != nil {
		return nil, err
	}
	s.reader, err = fleet.NewReader(fleet.ReaderOptions{Bucket: o.Bucket, Root: o.Root, File: s.records.viewFile(), Now: s.now})
	if err != nil {
		return nil, errors.Join(err, s.records.close())
	}
	if o.Keys.Online != nil {
		s.publisher = fleet.NewPublisher(o.Bucket, o.Keys, o.Root, s.now)
	}
	s.view.Store(&view{devices: &fleet.Devices{}, problem: "the documents were not read yet"})
	s.Tick(ctx)
	return s, nil
}

// Close forces to disk what is not there yet.
func (s *Server) Close() error { return s.records.close() }

// Run looks after the fleet until ctx ends.
func (s *Server) Run(ctx context.Context) {
	timer := time.NewTicker(s.o.Interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			s.Tick(ctx)
		}
	}
}

// Tick looks at the documents and the rollouts once.
func (s *Server) Tick(ctx context.Context) {
	err := s.read(ctx)
	if err != nil && ctx.Err() == nil {
		s.log.Error("reading the fleet's documents", "error", err)
	}
	if s.publisher == nil || err != nil && !errors.Is(err, fleet.ErrExpired) {
		return
	}
	if err := s.watch(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("watching over the rollouts", "error", err)
		return
	}
}

// read makes the view what the documents say.
func (s *Server) read(ctx context.Context) error {
	_, failed := s.reader.Refresh(ctx)
	if failed != nil && !errors.Is(failed, fleet.ErrExpired) && s.reader.Fresh() != nil {
		return failed
	}
	v := &view{groups: map[string]*fleet.Group{}, progress: map[string]*fleet.Progress{}, versions: s.reader.Versions(), read: s.now()}
	var err error
	if v.devices, err = s.reader.Devices(ctx); err != nil {
		return errors.Join(failed, err)
	}
	for _, name := range s.reader.Groups() {
		if v.groups[name], err = s.reader.Group(ctx, v.devices.Fleet, name); err != nil {
			return err
		}
		if v.progress[name], err = s.reader.Progress(ctx, v.devices.Fleet, name); err != nil {
			return err
		}
	}
	if failed != nil {
		v.problem = failed.Error()
	}
	s.view.Store(v)
	return failed
}

// watch takes every rollout as far as its devices let it, and signs anew what will
// expire.
func (s *Server) watch(ctx context.Context) error {
	due := false
	v := s.view.Load()
	for name, g := range v.groups {
		if _, changed := s.decide(v, g, v.progress[name]); changed {
			due = true
		}
	}
	for role, d := range v.versions {
		if role != "root" && role != "targets" && d.Expires.Sub(s.now()) < 4*24*time.Hour {
			due = true
		}
	}
	if !due {
		return nil
	}
	errNothing := errors.New("nothing is to be done")
	var said []string
	err := s.publisher.Change(ctx, func(ctx context.Context, e *fleet.Edit) error {
		said = nil
		changed := e.Renew()
		for _, name := range e.Reader.Groups() {
			g, err := e.Reader.Group(ctx, v.devices.Fleet, name)
			if err != nil {
				return err
			}
			p, err := e.Reader.Progress(ctx, v.devices.Fleet, name)
			if err != nil {
				return err
			}
			next, here := s.decide(v, g, p)
			if !here {
				continue
			}
			changed = true
			for _, r := range next.Rollouts {
				if was := p.Of(r.Model, r.Rollout); was != nil && *was != r {
					said = append(said, fmt.Sprintf("group %s, model %s, rollout %s: %s, stage %d: %s", name, r.Model, r.Rollout, r.State, r.Stage+1, r.Reason))
				}
			}
			if err := e.SetProgress(ctx, next); err != nil {
				return err
			}
		}
		if !changed {
			return errNothing
		}
		return nil
	})
	if err != nil && !errors.Is(err, errNothing) {
		return err
	}
	for _, line := range said {
		s.log.Info("a rollout goes on", "what", line)
	}
	return s.read(ctx)
}

// decide is what should become of the rollouts of a group, and whether that is a change.
func (s *Server) decide(v *view, g *fleet.Group, p *fleet.Progress) (*fleet.Progress, bool) {
	if g == nil || p == nil {
		return p, false
	}
	next := *p
	next.Rollouts = slices.Clone(p.Rollouts)
	changed := false
	for _, m := range g.Models {
		i := slices.IndexFunc(next.Rollouts, func(r fleet.RolloutState) bool { return r.Model == m.Name && r.Rollout == m.Rollout.ID })
		if i < 0 || next.Rollouts[i].State != fleet.Running {
			continue
		}
		if to, is := step(s.now().UTC().Truncate(time.Second), m, next.Rollouts[i], s.members(v, g, m.Name)); is {
			next.Rollouts[i], changed = to, true
		}
	}
	return &next, changed
}

// member is a device as a rollout sees it.
type member struct {
	name string
	last time.Time // when it was heard of last; zero for never
	// results are what it said of rollouts, by their ids.
	results map[string]Result
}

// members are the devices that follow the rollout of a model.
func (s *Server) members(v *view, g *fleet.Group, model string) []member {
	pinned := map[string]bool{}
	for _, p := range g.Pins {
		if p.Model == model {
			if p.Device == "" {
				return nil
			}
			pinned[p.Device] = true
		}
	}
	var all []member
	for name, group := range v.devices.Devices {
		if group != g.Group || pinned[name] {
			continue
		}
		m := member{name: name}
		if r := s.records.of(name); r != nil {
			m.last, m.results = r.Last, r.Results
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b member) int { return strings.Compare(a.name, b.name) })
	return all
}

// step is what should become of a rollout, and whether that is a change.
func step(now time.Time, m fleet.Model, r fleet.RolloutState, all []member) (fleet.RolloutState, bool) {
	silence := time.Duration(m.Rollout.Health.SilenceSeconds) * time.Second
	good, bad, waiting, away, first := 0, 0, 0, 0, ""
	for _, d := range all {
		if !m.Rollout.Reaches(r.Stage, d.name) {
			continue
		}
		result := d.results[m.Rollout.ID]
		since := d.last
		if since.Before(r.Since) {
			since = r.Since
		}
		switch {
		case result.Status == edge.Fail:
			if bad++; first == "" {
				first = fmt.Sprintf("%s: %s", d.name, result.Reason)
			}
		case result.Status == edge.Success:
			good++
		case d.last.Before(r.Since.Add(-silence)):
			away++ // it was not there when the stage began, and will come by itself
		case now.Sub(since) > silence:
			if bad++; first == "" {
				first = fmt.Sprintf("%s: nothing was heard of it since %s", d.name, d.last.UTC().Format(time.RFC3339))
			}
		default:
			waiting++
		}
	}
	to := r
	to.Since = now
	switch {
	case bad > m.Rollout.Health.MaxFailures:
		to.State, to.Reason = fleet.Halted, fmt.Sprintf("%d of %d devices of stage %d failed; %s", bad, good+bad+waiting+away, r.Stage+1, first)
		if len(to.Reason) > 1000 {
			to.Reason = to.Reason[:1000]
		}
		return to, true
	case waiting > 0, good+bad == 0 && away > 0:
		return r, false
	case r.Stage+1 >= len(m.Rollout.Stages):
		if good+bad == 0 {
			return r, false // a group without devices has proved nothing
		}
		to.State, to.Reason = fleet.Done, fmt.Sprintf("%d devices serve it, %d failed, %d are away", good, bad, away)
		return to, true
	}
	to.Stage++
	to.Reason = fmt.Sprintf("stage %d: %d devices serve it, %d failed, %d are away", r.Stage+1, good, bad, away)
	return to, true
}

// known refuses a device that the fleet does not have.
func (s *Server) known(d edge.Device) (group string, err error) {
	v := s.view.Load()
	group, is := v.devices.Devices[d.Name]
	if !is || v.devices.Fleet != d.Fleet {
		return "", &edge.Error{Status: 404, Type: "ResourceNotFoundException", Message: fmt.Sprintf("the fleet %s has no device %s: picket fleet add makes one", d.Fleet, d.Name)}
	}
	return group, nil
}

// Registration implements edge.Backend.
func (s *Server) Registration(_ context.Context, d edge.Device) (*edge.Registration, error) {
	group, err := s.known(d)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(map[string]string{"deviceName": d.Name, "deviceFleetName": d.Fleet, "group": group})
	return &edge.Registration{DeviceRegistration: string(text), CacheTTL: cacheTTL}, err
}

// Heartbeat implements edge.Backend. What it brings is on disk when it returns.
func (s *Server) Heartbeat(_ context.Context, h *edge.Heartbeat) error {
	group, err := s.known(h.Device)
	if err != nil {
		return err
	}
	return s.records.note(h, group, s.now().UTC())
}

// Deployments implements edge.Backend: what the documents want the device to serve.
func (s *Server) Deployments(_ context.Context, d edge.Device) (*edge.Deployments, error) {
	name, err := s.known(d)
	if err != nil {
		return nil, err
	}
	v := s.view.Load()
	out := &edge.Deployments{Deployments: []edge.Deployment{}}
	g := v.groups[name]
	if g == nil {
		return out, nil
	}
	for _, w := range g.For(d.Name, v.progress[name]) {
		if w.Package == nil {
			continue
		}
		out.Deployments = append(out.Deployments, edge.Deployment{
			DeploymentName: w.ID, Type: "Model", FailureHandlingPolicy: "ROLLBACK_ON_FAILURE",
			Definitions: []edge.Definition{{
				ModelHandle: w.Model, S3URL: s.o.Bucket.URL(w.Package.File), Checksum: edge.Checksum{Type: "SHA1", Sum: w.Package.SHA1}, State: edge.Deploy,
			}},
		})
	}
	return out, nil
}
