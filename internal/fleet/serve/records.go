package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/fleet/edge"
)

// batchDelay is how long a heartbeat waits for others that are put on disk with it.
const batchDelay = 2 * time.Millisecond

// maxResults is how many rollouts of a device are remembered; the oldest go.
const maxResults = 64

// Result is what a device has said of a rollout last.
type Result struct {
	Status   string    `json:"status"`
	Model    string    `json:"model"`
	Version  string    `json:"version"`
	Reason   string    `json:"reason,omitempty"`
	Rollback string    `json:"rollback,omitempty"`
	At       time.Time `json:"at"`
}

// Served is a model that a device serves.
type Served struct {
	Model    string  `json:"model"`
	Version  string  `json:"version"`
	Requests float64 `json:"requests"`
	Failures float64 `json:"failures"`
	P99      float64 `json:"p99_us"`
}

// Record is what is known of a device.
type Record struct {
	Group string    `json:"group"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Agent string    `json:"agent"`
	// Expired tells that the device finds the documents expired, Problem that it cannot
	// follow, ClockError how far its clock is behind, in seconds.
	Expired    bool              `json:"expired,omitempty"`
	Problem    bool              `json:"problem,omitempty"`
	ClockError float64           `json:"clock_error,omitempty"`
	Models     []Served          `json:"models"`
	Results    map[string]Result `json:"results"`
}

// records keeps them in a file that survives a crash, and in memory. A Record in memory
// is never changed, only replaced.
type records struct {
	dir string
	db  *bolt.DB

	mu  sync.RWMutex
	all map[string]*Record
}

var devicesBucket = []byte("devices")

func openRecords(dir string) (*records, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening what devices have reported: %w", err)
	}
	r := &records{dir: dir, all: map[string]*Record{}}
	var err error
	r.db, err = bolt.Open(filepath.Join(dir, "devices.db"), 0o600, &bolt.Options{Timeout: time.Second})
	if err == nil {
		r.db.MaxBatchDelay = batchDelay
		err = r.db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(devicesBucket)
			if err != nil {
				return err
			}
			return b.ForEach(func(k, v []byte) error {
				one := &Record{}
				r.all[string(k)] = one
				return json.Unmarshal(v, one)
			})
		})
	}
	if err != nil {
		if errors.Is(err, bolterrors.ErrTimeout) {
			err = errors.New("another server has it")
		}
		if r.db != nil {
			_ = r.db.Close()
		}
		return nil, fmt.Errorf("opening what devices have reported, in %s: %w", dir, err)
	}
	return r, nil
}

func (r *records) close() error { return r.db.Close() }

func (r *records) viewFile() string { return filepath.Join(r.dir, "view.json") }

// of is the record of a device; nil where there is none.
func (r *records) of(name string) *Record {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.all[name]
}

// note records a heartbeat. It returns when that is on disk, together with whatever
// else comes at the time.
func (r *records) note(h *edge.Heartbeat, group string, now time.Time) error {
	var next *Record
	err := r.db.Batch(func(tx *bolt.Tx) error {
		b := tx.Bucket(devicesBucket)
		next = &Record{First: now, Results: map[string]Result{}}
		if was := b.Get([]byte(h.Name)); was != nil {
			if err := json.Unmarshal(was, next); err != nil {
				return err
			}
		}
		next.take(h, group, now)
		data, err := json.Marshal(next)
		if err != nil {
			return err
		}
		return b.Put([]byte(h.Name), data)
	})
	if err != nil {
		return fmt.Errorf("keeping a heartbeat: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if is := r.all[h.Name]; is == nil || !is.Last.After(next.Last) {
		r.all[h.Name] = next
	}
	return nil
}

func (r *Record) take(h *edge.Heartbeat, group string, now time.Time) {
	r.Group, r.Last, r.Agent = group, now, h.AgentVersion
	r.Models = []Served{}
	r.Expired, r.Problem, r.ClockError = false, false, 0
	for _, m := range h.AgentMetrics {
		switch m.MetricName {
		case edge.MetricExpired:
			r.Expired = m.Value != 0
		case edge.MetricProblem:
			r.Problem = m.Value != 0
		case edge.MetricClock:
			r.ClockError = m.Value
		}
	}
	for _, m := range h.Models {
		s := Served{Model: m.ModelName, Version: m.ModelVersion}
		for _, metric := range m.ModelMetrics {
			switch metric.MetricName {
			case edge.MetricRequests:
				s.Requests = metric.Value
			case edge.MetricFailures:
				s.Failures = metric.Value
			case edge.MetricP99:
				s.P99 = metric.Value
			}
		}
		r.Models = append(r.Models, s)
	}
	d := h.DeploymentResult
	if d == nil || d.DeploymentName == "" {
		return
	}
	result := Result{Status: d.DeploymentStatus, Reason: d.DeploymentStatusMessage, At: now}
	// Old clients say how it went model by model.
	for _, m := range d.DeploymentModels {
		if result.Model == "" || m.Status == edge.Fail {
			result.Model, result.Version, result.Rollback = m.ModelHandle, m.ModelVersion, m.RollbackFailureReason
			if m.StatusReason != "" {
				result.Reason = m.StatusReason
			}
		}
		if m.Status == edge.Fail {
			result.Status = edge.Fail
		}
	}
	if r.Results == nil {
		r.Results = map[string]Result{}
	}
	r.Results[d.DeploymentName] = result
	for len(r.Results) > maxResults {
		oldest := ""
		for id, one := range r.Results {
			if id != d.DeploymentName && (oldest == "" || one.At.Before(r.Results[oldest].At)) {
				oldest = id
			}
		}
		delete(r.Results, oldest)
	}
}

// each are all records.
func (r *records) each() map[string]*Record {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return maps.Clone(r.all)
}
