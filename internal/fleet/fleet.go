// Package fleet is what many hosts should run, as documents in a bucket that nobody but
// their signers can change: which package each group of devices serves, how far a
// rollout may go, and who is pinned to what. The documents are those of The Update
// Framework (TUF), so an old, foreign, mixed or withheld one is noticed.
// docs/formats/fleet.md describes every byte.
//
// A Reader is a device's or a server's view of them, a Publisher changes them.
package fleet

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/picket-ml/picket/packaging"
)

// Limits of the documents.
const (
	// maxDevices is how many devices a fleet may have.
	maxDevices = 100_000
	// MaxModels is how many models a group may have, and maxPins how many pins.
	MaxModels = 64
	maxPins   = 4096
	// maxStages is how many stages a rollout may have.
	maxStages = 16

	maxDocumentBytes = 16 << 20
	documentFormat   = 1
	documentDepth    = 8
	maxReason        = 1024
)

// Package is one package: which it must be, and where its file lies.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Digest is the package's own, that of its manifest.
	Digest string `json:"digest"`
	// File is where it lies below the fleet's place.
	File string `json:"file"`
	// Size, SHA256 and SHA1 are of the file. The last is what the old API of devices
	// has, and nothing relies on it.
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	SHA1   string `json:"sha1"`
}

// Model is what the devices of a group should serve under a name.
type Model struct {
	Name string `json:"name"`
	// Package is what the rollout leads to, and Previous what devices have that it
	// has not reached yet; nil for nothing.
	Package  Package  `json:"package"`
	Previous *Package `json:"previous,omitempty"`
	Rollout  Rollout  `json:"rollout"`
}

// Rollout is how a package gets to the devices of a group.
type Rollout struct {
	// ID is unique in the fleet. What failed under one ID is tried again under another.
	ID string `json:"id"`
	// Stages are percentages of the group's devices, rising, of which the last is 100.
	Stages []float64 `json:"stages"`
	Health Health    `json:"health"`
}

// Health says what a device must find before it calls the new model good.
type Health struct {
	// BakeSeconds is how long a device watches the new model.
	BakeSeconds int `json:"bake_seconds"`
	// MaxFailures is how many devices may fail before the rollout halts: it does with
	// one more.
	MaxFailures int `json:"max_failures"`
	// MaxErrorRate is the fraction of requests that may fail in the model itself, once
	// there were MinRequests.
	MaxErrorRate float64 `json:"max_error_rate"`
	MinRequests  int     `json:"min_requests"`
	// MaxP99Micros is what the 99th percentile of runs may be; 0 for anything.
	MaxP99Micros int `json:"max_p99_us"`
	// SilenceSeconds is after what silence a device that was there when its stage
	// began counts as one that failed.
	SilenceSeconds int `json:"silence_seconds"`
}

// DefaultHealth is what a rollout asks for that says nothing else.
func DefaultHealth() Health {
	return Health{BakeSeconds: 600, MaxErrorRate: 0.01, MinRequests: 100, SilenceSeconds: 1800}
}

// Pin keeps a device, or all of a group, on a package whatever rollouts say.
type Pin struct {
	ID string `json:"id"` // as a rollout's
	// Device is empty for the whole group. One for a device is stronger.
	Device  string  `json:"device,omitempty"`
	Model   string  `json:"model"`
	Package Package `json:"package"`
}

// Group is the document of a group: signed by the operator.
type Group struct {
	Format int     `json:"picket_group"`
	Fleet  string  `json:"fleet"`
	Group  string  `json:"group"`
	Models []Model `json:"models"`
	Pins   []Pin   `json:"pins"`
}

// Devices is the document that says which devices there are, and in which group:
// signed by the operator.
type Devices struct {
	Format  int               `json:"picket_devices"`
	Fleet   string            `json:"fleet"`
	Devices map[string]string `json:"devices"` // name to group
}

// State is how a rollout goes.
type State string

// The states of a rollout. One that is paused stays where it is; one that is halted is
// taken back from every device.
const (
	Running State = "running"
	Paused  State = "paused"
	Halted  State = "halted"
	Done    State = "done"
)

// RolloutState is how far one rollout may go.
type RolloutState struct {
	Model   string `json:"model"`
	Rollout string `json:"rollout"` // its ID
	Stage   int    `json:"stage"`   // an index
	State   State  `json:"state"`
	// Since is when the stage or the state began, and Reason why it did.
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
}

// Progress is the document that says how far the rollouts of a group may go: signed
// by whoever watches over them, who can do no more than that.
type Progress struct {
	Format   int            `json:"picket_progress"`
	Fleet    string         `json:"fleet"`
	Group    string         `json:"group"`
	Rollouts []RolloutState `json:"rollouts"`
}

// Of is the state of the rollout of a model; nil where there is none.
func (p *Progress) Of(model, rollout string) *RolloutState {
	if p == nil {
		return nil
	}
	for i := range p.Rollouts {
		if r := &p.Rollouts[i]; r.Model == model && r.Rollout == rollout {
			return r
		}
	}
	return nil
}

// Position is where a device stands among all, from 0 to below 100. It depends on its
// name alone, so a device that is in a stage is in all later ones, of all rollouts.
func Position(device string) float64 {
	sum := sha256.Sum256([]byte("picket fleet position\x00" + device))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53) * 100
}

// Wanted is what a device should serve under a name.
type Wanted struct {
	Model string
	// ID is of the rollout or the pin that says so.
	ID string
	// Package is nil for nothing.
	Package *Package
	// New tells that the rollout has reached the device: the package must prove itself.
	New    bool
	Health Health
	// Unsigned tells that no signed document says so.
	Unsigned bool
	// Why is a short sentence for people.
	Why string
}

// For is what a device of the group should serve. Without a word on a rollout in the
// progress it has not begun.
func (g *Group) For(device string, p *Progress) []Wanted {
	var all []Wanted
	pinned := map[string]bool{}
	pin := func(p Pin, why string) {
		if !pinned[p.Model] {
			pinned[p.Model] = true
			all = append(all, Wanted{Model: p.Model, ID: p.ID, Package: &p.Package, New: true, Health: DefaultHealth(), Why: why})
		}
	}
	for _, p := range g.Pins {
		if p.Device != "" && p.Device == device {
			pin(p, "the device is pinned")
		}
	}
	for _, p := range g.Pins {
		if p.Device == "" {
			pin(p, "the group is pinned")
		}
	}
	for _, m := range g.Models {
		if pinned[m.Name] {
			continue
		}
		w := Wanted{Model: m.Name, ID: m.Rollout.ID, Package: m.Previous, Health: m.Rollout.Health}
		switch r := p.Of(m.Name, m.Rollout.ID); {
		case r == nil:
			w.Why = "the rollout has not begun"
		case r.State == Halted:
			w.Why = "the rollout was halted: " + r.Reason
		case r.State == Done || m.Rollout.Reaches(r.Stage, device):
			w.Package, w.New, w.Why = &m.Package, true, "the rollout has reached the device"
		default:
			w.Why = "the rollout has not reached the device"
		}
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b Wanted) int { return compare(a.Model, b.Model) })
	return all
}

// Reaches tells whether a device is in a stage.
func (r Rollout) Reaches(stage int, device string) bool {
	return stage >= 0 && stage < len(r.Stages) && Position(device) < r.Stages[stage]
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

var (
	// DeviceName is the old API's form of a device's and a fleet's name.
	deviceName = regexp.MustCompile(`^[a-zA-Z0-9](?:-*[a-zA-Z0-9])*$`)
	rolloutID  = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9._-]*[a-zA-Z0-9])?$`)
	packageKey = regexp.MustCompile(`^packages/[a-zA-Z0-9][a-zA-Z0-9 ._-]*\.tar\.gz$`)
	hexDigits  = regexp.MustCompile(`^[0-9a-f]+$`)
)

// CheckName refuses what cannot be the name of a fleet, a group or a device. what says
// which it is.
func CheckName(what, name string) error {
	if name == "" || len(name) > 63 || !deviceName.MatchString(name) {
		return fmt.Errorf("%.80q is no name of a %s: 1 to 63 letters, digits and inner hyphens", name, what)
	}
	return nil
}

// Check refuses a package that cannot be one.
func (p Package) Check() error {
	if err := errors.Join(packaging.CheckName(p.Name), packaging.CheckVersion(p.Version)); err != nil {
		return err
	}
	if _, err := packaging.CheckDigest(p.Digest); err != nil {
		return err
	}
	switch {
	case len(p.File) > 512 || !packageKey.MatchString(p.File):
		return fmt.Errorf("%.80q is no place of a package: it must be packages/NAME.tar.gz", p.File)
	case p.Size <= 0 || p.Size > 2*packaging.MaxBytes:
		return fmt.Errorf("the package %s cannot have %d bytes", p.Name, p.Size)
	case len(p.SHA256) != 64 || !hexDigits.MatchString(p.SHA256), len(p.SHA1) != 40 || !hexDigits.MatchString(p.SHA1):
		return fmt.Errorf("the digests of the file of package %s are none", p.Name)
	}
	return nil
}

// Same tells whether two packages are one; nil is nothing.
func (p *Package) Same(o *Package) bool {
	return (p == nil) == (o == nil) && (p == nil || p.Digest == o.Digest)
}

func (p *Package) String() string {
	if p == nil {
		return "none"
	}
	return p.Name + "@" + p.Version
}

func checkID(id string) error {
	if id == "" || len(id) > 128 || !rolloutID.MatchString(id) {
		return fmt.Errorf("%.80q is no id of a rollout", id)
	}
	return nil
}

// Check refuses a rollout that cannot be one.
func (r Rollout) Check() error {
	if err := checkID(r.ID); err != nil {
		return err
	}
	if len(r.Stages) == 0 || len(r.Stages) > maxStages {
		return fmt.Errorf("a rollout has 1 to %d stages, this one %d", maxStages, len(r.Stages))
	}
	last := 0.0
	for _, s := range r.Stages {
		if !(s > last && s <= 100) { // NaN is neither
			return errors.New("the stages of a rollout are rising percentages up to 100")
		}
		last = s
	}
	if last != 100 {
		return fmt.Errorf("the last stage of a rollout is 100 percent, and not %v", last)
	}
	return r.Health.check()
}

func (h Health) check() error {
	const month = 31 * 24 * 3600
	switch {
	case h.BakeSeconds < 0 || h.BakeSeconds > month:
		return errors.New("the time to watch a new model is outside 0 to 31 days")
	case h.MaxFailures < 0 || h.MaxFailures > maxDevices:
		return fmt.Errorf("the number of devices that may fail is outside 0 to %d", maxDevices)
	case !(h.MaxErrorRate >= 0 && h.MaxErrorRate <= 1):
		return errors.New("the fraction of requests that may fail is outside 0 to 1")
	case h.MinRequests < 0 || h.MaxP99Micros < 0:
		return errors.New("a limit on the health of a model is negative")
	case h.SilenceSeconds < 1 || h.SilenceSeconds > month:
		return errors.New("the silence after which a device counts as failed is outside 1 s to 31 days")
	}
	return nil
}

func (g *Group) check() error {
	if g.Format != documentFormat {
		return fmt.Errorf("it has format %d, this program knows %d; install a newer Picket", g.Format, documentFormat)
	}
	if err := errors.Join(CheckName("fleet", g.Fleet), CheckName("group", g.Group)); err != nil {
		return err
	}
	if len(g.Models) > MaxModels || len(g.Pins) > maxPins {
		return fmt.Errorf("it has %d models and %d pins; at most %d and %d are allowed", len(g.Models), len(g.Pins), MaxModels, maxPins)
	}
	seen := map[string]bool{}
	for _, m := range g.Models {
		if err := errors.Join(packaging.CheckName(m.Name), m.Package.Check(), m.Rollout.Check()); err != nil {
			return fmt.Errorf("model %.80q: %w", m.Name, err)
		}
		if m.Previous != nil {
			if err := m.Previous.Check(); err != nil {
				return fmt.Errorf("model %q: the package before: %w", m.Name, err)
			}
		}
		if seen[m.Name] {
			return fmt.Errorf("the model %q is there twice", m.Name)
		}
		seen[m.Name] = true
	}
	pins := map[[2]string]bool{}
	for _, p := range g.Pins {
		err := errors.Join(checkID(p.ID), packaging.CheckName(p.Model), p.Package.Check())
		if p.Device != "" {
			err = errors.Join(err, CheckName("device", p.Device))
		}
		if err != nil {
			return fmt.Errorf("a pin of model %.80q: %w", p.Model, err)
		}
		key := [2]string{p.Device, p.Model}
		if pins[key] {
			return fmt.Errorf("model %q is pinned twice for one device or the group", p.Model)
		}
		pins[key] = true
	}
	return nil
}

func (p *Progress) check() error {
	if p.Format != documentFormat {
		return fmt.Errorf("it has format %d, this program knows %d; install a newer Picket", p.Format, documentFormat)
	}
	if err := errors.Join(CheckName("fleet", p.Fleet), CheckName("group", p.Group)); err != nil {
		return err
	}
	if len(p.Rollouts) > MaxModels {
		return fmt.Errorf("it has %d rollouts; at most %d are allowed", len(p.Rollouts), MaxModels)
	}
	for _, r := range p.Rollouts {
		if err := errors.Join(packaging.CheckName(r.Model), checkID(r.Rollout)); err != nil {
			return err
		}
		if r.Stage < 0 || r.Stage >= maxStages || len(r.Reason) > maxReason {
			return fmt.Errorf("rollout %s has a stage or a reason out of range", r.Rollout)
		}
		switch r.State {
		case Running, Paused, Halted, Done:
		default:
			return fmt.Errorf("%.80q is no state of a rollout", string(r.State))
		}
	}
	return nil
}

func (d *Devices) check() error {
	if d.Format != documentFormat {
		return fmt.Errorf("it has format %d, this program knows %d; install a newer Picket", d.Format, documentFormat)
	}
	if err := CheckName("fleet", d.Fleet); err != nil {
		return err
	}
	if len(d.Devices) > maxDevices {
		return fmt.Errorf("it has %d devices; at most %d are allowed", len(d.Devices), maxDevices)
	}
	for name, group := range d.Devices {
		if err := errors.Join(CheckName("device", name), CheckName("group", group)); err != nil {
			return err
		}
	}
	return nil
}
