package device

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/edge"
	"github.com/picket-ml/picket/packaging"
)

const (
	stateFormat   = 1
	maxStateBytes = 16 << 20
	stateDepth    = 10
	// maxFailures and maxReports bound what is remembered of one model.
	maxFailures = 32
	maxReports  = 16
)

// state is what the device keeps: one file, replaced as a whole and forced to disk
// before what it says is done.
type state struct {
	Format int                    `json:"picket_device"`
	Models map[string]*modelState `json:"models"`
	// Resolved are packages that a server has named, by where they lie and their SHA-1.
	Resolved map[string]fleet.Package `json:"resolved,omitempty"`
}

// modelState is of one name.
type modelState struct {
	// Serving was loaded and is to be loaded at the next start; nil for nothing. ID is of
	// the rollout or pin that had it loaded, New tells that it was the new package of it.
	Serving *fleet.Package `json:"serving,omitempty"`
	ID      string         `json:"id,omitempty"`
	New     bool           `json:"new,omitempty"`
	// Bake tells that Serving is watched, and Before is what to go back to; Starts is how
	// often the daemon has started meanwhile.
	Bake   *bake          `json:"bake,omitempty"`
	Before *fleet.Package `json:"before,omitempty"`
	Starts int            `json:"starts,omitempty"`
	// Trying is written before a package is loaded, so that one that ends the daemon is
	// known.
	Trying *trying   `json:"trying,omitempty"`
	Failed []failure `json:"failed,omitempty"`
	// Unsigned tells that no signed document has said what to serve.
	Unsigned bool `json:"unsigned,omitempty"`
	// RollbackFailed is the digest of the package to which the device could not go back.
	RollbackFailed string `json:"rollback_failed,omitempty"`
	// Reports are what the server was not told yet.
	Reports []*edge.DeploymentResult `json:"reports,omitempty"`

	unloaded bool // Serving is not loaded, though it should be
}

type bake struct {
	Health fleet.Health `json:"health"`
	Until  time.Time    `json:"until"`
}

type trying struct {
	ID     string `json:"id"`
	Digest string `json:"digest"`
	Count  int    `json:"count"`
}

type failure struct {
	ID     string `json:"id"`
	Digest string `json:"digest"`
	Reason string `json:"reason"`
}

func (m *modelState) baking() bool { return m.Bake != nil }

// failedUnder is how a package failed under the id that wants it; nil if it did not.
func (m *modelState) failedUnder(w fleet.Wanted) *failure {
	for i := range m.Failed {
		if m.Failed[i].ID == w.ID && m.Failed[i].Digest == w.Package.Digest {
			return &m.Failed[i]
		}
	}
	return nil
}

// report has the server be told. What it was to be told of the same rollout before is
// no longer so.
func (m *modelState) report(r *edge.DeploymentResult) {
	m.Reports = slices.DeleteFunc(m.Reports, func(o *edge.DeploymentResult) bool { return o.DeploymentName == r.DeploymentName })
	m.Reports = append(m.Reports, r)
	if extra := len(m.Reports) - maxReports; extra > 0 {
		m.Reports = slices.Delete(m.Reports, 0, extra)
	}
}

func (s *state) names() []string { return slices.Sorted(maps.Keys(s.Models)) }

func (s *state) model(name string) *modelState {
	m := s.Models[name]
	if m == nil {
		m = &modelState{}
		s.Models[name] = m
	}
	return m
}

// readState reads the file; nothing is an empty state, a damaged one an error: to go on
// without it would be to end what is served.
func readState(path string) (*state, error) {
	empty := &state{Format: stateFormat, Models: map[string]*modelState{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err == nil {
		var s *state
		if s, err = parseState(data); err == nil {
			return s, nil
		}
		err = fmt.Errorf("it is damaged: %w; restore it, or remove it and the fleet's models are loaded anew", err)
	}
	return nil, fmt.Errorf("reading what this device serves, %s: %w", path, err)
}

func parseState(data []byte) (*state, error) {
	if len(data) > maxStateBytes {
		return nil, fmt.Errorf("it has more than %d bytes", maxStateBytes)
	}
	if err := packaging.CheckJSON(data, stateDepth); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	s := &state{}
	if err := d.Decode(s); err != nil {
		return nil, err
	}
	if s.Format != stateFormat || s.Models == nil {
		return nil, fmt.Errorf("it is not of format %d", stateFormat)
	}
	for _, p := range s.Resolved {
		if err := p.Check(); err != nil {
			return nil, err
		}
	}
	for name, m := range s.Models {
		if m == nil {
			return nil, fmt.Errorf("there is nothing about model %q", name)
		}
		if err := packaging.CheckName(name); err != nil {
			return nil, err
		}
		for _, p := range []*fleet.Package{m.Serving, m.Before} {
			if p != nil {
				if err := p.Check(); err != nil {
					return nil, err
				}
			}
		}
		if slices.Contains(m.Reports, nil) || len(m.Reports) > maxReports || len(m.Failed) > maxFailures {
			return nil, fmt.Errorf("the reports of model %q are none", name)
		}
	}
	return s, nil
}

func (s *state) write(path string) error {
	data, err := json.Marshal(s)
	if err == nil {
		err = durable.WriteFile(path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keeping what this device serves: %w", err)
	}
	return nil
}
