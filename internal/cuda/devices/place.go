package devices

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// Every is the word for all devices that are in use; see engine.OpenOptions.GPUs.
const Every = "all"

// Place opens a model where engine.OpenOptions.GPUs wants it, by calling open with one device after the other. open takes a Lease, which the model
// closes. With no wish the first that opens is taken, of the device with the fewest models; else one on each device is, of those that open, and
// what comes back is all of them as one model, whose instances are on one device after the other. Devices whose model does not open are in its
// notes. Where none opens the error is that of the last, of the engine's kinds.
func (s *Set) Place(gpus string, open func(*Device) (engine.Model, error)) (engine.Model, error) {
	order := s.byLoad()
	if gpus != "" && gpus != Every {
		named, err := pick(order, gpus)
		if err != nil {
			return nil, err
		}
		order = named
	}
	var models []engine.Model
	var notes []engine.Note
	var last error
	for _, d := range order {
		m, err := open(d)
		if err == nil && gpus == "" {
			return m, nil
		}
		if err == nil {
			models = append(models, m)
			continue
		}
		last = err
		notes = append(notes, engine.Note{Level: slog.LevelWarn, Text: fmt.Sprintf("it is not on %s: %v", d.facts.UUID, err)})
	}
	if len(models) == 0 {
		return nil, cmp.Or(last, fmt.Errorf("%w: there is no GPU to open it on", engine.ErrUnsupported))
	}
	if len(models) == 1 && len(notes) == 0 {
		return models[0], nil
	}
	return newSpread(models, notes), nil
}

// pick are the devices of these UUIDs, in the order in which they are named.
func pick(all []*Device, gpus string) (named []*Device, err error) {
	for uuid := range strings.SplitSeq(gpus, ",") {
		uuid = strings.TrimSpace(uuid)
		i := slices.IndexFunc(all, func(d *Device) bool { return d.facts.UUID == uuid })
		if i < 0 {
			return nil, fmt.Errorf("%w: gpus names %s, which is not among those that may be used here", engine.ErrUnsupported, uuid)
		}
		if !slices.Contains(named, all[i]) {
			named = append(named, all[i])
		}
	}
	return named, nil
}

// spread is one model on several devices, each of which has all of it. It owns the models. Their instances know nothing of each other.
type spread struct {
	on         []engine.Model
	properties engine.Properties
	made       atomic.Uint32 // instances
}

// ownMemory is a spread whose models have memory of their own.
type ownMemory struct{ *spread }

// newSpread makes one model of those, which give and take the same.
func newSpread(on []engine.Model, notes []engine.Note) engine.Model {
	s := &spread{on: on, properties: on[0].Properties()}
	s.properties.Notes = slices.Concat(s.properties.Notes, notes)
	for _, m := range on[1:] {
		p := m.Properties()
		s.properties.Devices = slices.Concat(s.properties.Devices, p.Devices)
		s.properties.Instances += p.Instances
	}
	if _, ok := on[0].(engine.Allocator); ok {
		return ownMemory{s}
	}
	return s
}

// Signature is what the model takes and gives.
func (s *spread) Signature() engine.Signature { return s.on[0].Signature() }

// Properties are those of the first, on all devices.
func (s *spread) Properties() engine.Properties { return s.properties }

// NewInstance makes an instance on the next device.
func (s *spread) NewInstance() (engine.Instance, error) {
	return s.on[int(s.made.Add(1)-1)%len(s.on)].NewInstance()
}

// Allocate lends memory of the first device that has some. What is pinned for one device is for all of them.
func (s ownMemory) Allocate(n int) (b *tensor.Buffer, err error) {
	for _, m := range s.on {
		if b, err = m.(engine.Allocator).Allocate(n); err == nil {
			return b, nil
		}
	}
	return nil, err
}

// Close closes all.
func (s *spread) Close() (err error) {
	for _, m := range s.on {
		err = errors.Join(err, m.Close())
	}
	return err
}
