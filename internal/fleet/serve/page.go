package serve

import (
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/edge"
)

//go:embed page.html
var pageSource string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"ago":   ago,
	"clock": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"join":  func(list []string) string { return strings.Join(list, ", ") },
}).Parse(pageSource))

// Report is what the page shows, and `picket fleet status` with --server.
type Report struct {
	Fleet string    `json:"fleet"`
	At    time.Time `json:"at"`
	// Problem is what is wrong with the documents; empty for nothing.
	Problem   string                   `json:"problem,omitempty"`
	Documents map[string]fleet.Version `json:"documents"`
	Read      time.Time                `json:"read"`
	Rollouts  []RolloutReport          `json:"rollouts"`
	Counts    Counts                   `json:"counts"`
	Devices   []DeviceReport           `json:"devices"`
	// Left is how many devices the list leaves out.
	Left int `json:"left_out,omitempty"`
}

// Counts are of devices.
type Counts struct {
	All     int `json:"all"`
	Heard   int `json:"heard"`  // lately
	Silent  int `json:"silent"` // heard once, and not lately
	Never   int `json:"never"`
	Failed  int `json:"failed"` // something failed on them that they should have
	Expired int `json:"expired"`
}

// RolloutReport is a model of a group.
type RolloutReport struct {
	Group    string      `json:"group"`
	Model    string      `json:"model"`
	Rollout  string      `json:"rollout"`
	Package  string      `json:"package"`
	Previous string      `json:"previous"`
	State    fleet.State `json:"state"`
	Stage    int         `json:"stage"` // from 1
	Stages   []float64   `json:"stages"`
	Since    time.Time   `json:"since"`
	Reason   string      `json:"reason,omitempty"`
	// Of the devices in the stage.
	Reached int `json:"reached"`
	Good    int `json:"good"`
	Bad     int `json:"bad"`
}

// DeviceReport is one device.
type DeviceReport struct {
	Name     string    `json:"name"`
	Group    string    `json:"group"`
	Heard    bool      `json:"heard"`
	Last     time.Time `json:"last"`
	Agent    string    `json:"agent,omitempty"`
	Models   []Served  `json:"models"`
	Problems []string  `json:"problems"`
}

const (
	// late is after what time a device counts as silent.
	late = 15 * time.Minute
	// maxListed bounds the page; the report in JSON has all.
	maxListed = 2000
)

// Report says how the fleet does.
func (s *Server) Report() Report {
	v, now := s.view.Load(), s.now().UTC()
	r := Report{Fleet: v.devices.Fleet, At: now, Problem: v.problem, Documents: v.versions, Read: v.read, Rollouts: []RolloutReport{}, Devices: []DeviceReport{}}
	wanted := map[string]bool{} // ids that are current
	for name, g := range v.groups {
		for _, p := range g.Pins {
			wanted[p.ID] = true
		}
		for _, m := range g.Models {
			wanted[m.Rollout.ID] = true
			one := RolloutReport{
				Group: name, Model: m.Name, Rollout: m.Rollout.ID, Package: m.Package.String(), Previous: m.Previous.String(), Stages: m.Rollout.Stages,
			}
			if st := v.progress[name].Of(m.Name, m.Rollout.ID); st != nil {
				one.State, one.Stage, one.Since, one.Reason = st.State, st.Stage+1, st.Since, st.Reason
				for _, d := range s.members(v, g, m.Name) {
					if st.State != fleet.Done && !m.Rollout.Reaches(st.Stage, d.name) {
						continue
					}
					one.Reached++
					switch d.results[m.Rollout.ID].Status {
					case edge.Success:
						one.Good++
					case edge.Fail:
						one.Bad++
					}
				}
			}
			r.Rollouts = append(r.Rollouts, one)
		}
	}
	slices.SortFunc(r.Rollouts, func(a, b RolloutReport) int { return strings.Compare(a.Group+"\x00"+a.Model, b.Group+"\x00"+b.Model) })
	records := s.records.each()
	for name, group := range v.devices.Devices {
		r.Counts.All++
		d := DeviceReport{Name: name, Group: group, Models: []Served{}, Problems: []string{}}
		is := records[name]
		if is == nil {
			r.Counts.Never++
			d.Problems = append(d.Problems, "never heard of")
			r.Devices = append(r.Devices, d)
			continue
		}
		d.Last, d.Agent, d.Models, d.Heard = is.Last, is.Agent, is.Models, now.Sub(is.Last) <= late
		if d.Heard {
			r.Counts.Heard++
		} else {
			r.Counts.Silent++
			d.Problems = append(d.Problems, "silent for "+ago(now, is.Last))
		}
		if is.Expired {
			r.Counts.Expired++
			d.Problems = append(d.Problems, "finds the documents expired")
		} else if is.Problem {
			d.Problems = append(d.Problems, "cannot follow the fleet; its log says why")
		}
		if is.ClockError != 0 {
			d.Problems = append(d.Problems, "its clock is off by "+time.Duration(is.ClockError*float64(time.Second)).String())
		}
		failed := false
		for id, result := range is.Results {
			if wanted[id] && result.Status == edge.Fail {
				failed = true
				text := result.Model + "@" + result.Version + " failed: " + result.Reason
				if result.Rollback != "" {
					text += "; going back failed: " + result.Rollback
				}
				d.Problems = append(d.Problems, text)
			}
		}
		if failed {
			r.Counts.Failed++
		}
		slices.Sort(d.Problems)
		r.Devices = append(r.Devices, d)
	}
	// Those with problems first.
	slices.SortFunc(r.Devices, func(a, b DeviceReport) int {
		if x, y := len(a.Problems) > 0, len(b.Problems) > 0; x != y {
			if x {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return r
}

// ago is how long something was, for people.
func ago(now, then time.Time) string {
	switch d := now.Sub(then); {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	default:
		return d.Round(24 * time.Hour).String()
	}
}

// Page is the report for people at /, and as JSON at /report.json.
func (s *Server) Page() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		secure(w)
		r := s.Report()
		if r.Left = len(r.Devices) - maxListed; r.Left > 0 {
			r.Devices = r.Devices[:maxListed]
		} else {
			r.Left = 0
		}
		var text strings.Builder
		if err := page.Execute(&text, r); err != nil {
			s.log.Error("writing the report", "error", err)
			http.Error(w, "the report cannot be written; the log says why", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(text.String())) // who has left does not want it
	})
	mux.HandleFunc("GET /report.json", func(w http.ResponseWriter, _ *http.Request) {
		secure(w)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Report()) // likewise
	})
	return mux
}

// secure has a browser load nothing from elsewhere, and run nothing at all.
func secure(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}
