// Package devices is the GPUs of the CUDA driver as the backends of a process share them: which of them models may be put on, how many models are
// on each, the memory that is pinned for them, and which are out of use. A backend asks for a place with [Set.Place] and holds a [Lease] for as long
// as its model is there; a device that is sick or lost is out of use for all backends at once.
package devices

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda"
	"github.com/picket-ml/picket/internal/hw"
)

// Options are what a Set is made with.
type Options struct {
	// Library is the path of libcuda.so.1. Default: where the loader finds it.
	Library string
	// Use are the UUIDs of the GPUs, or of their MIG instances, that may be used, "GPU-..." or "MIG-..." as nvidia-smi -L prints them. Default:
	// all that the driver shows to this process.
	Use []string
	// Limits bound what is taken of each device.
	Limits cuda.Limits
	// Wait is how threads wait for devices: spin, sleep, or auto, which is the default: spin where the process may use manyCores processors or
	// more. It is for ONNX Runtime, too, which shares the device's context.
	Wait string
	// Lost is told of a device that has been lost, once, on the goroutine that found out, which must not wait. Nil for nobody.
	Lost func(uuid, reason string)
}

// manyCores is how many processors there have to be for one to do nothing but wait.
const manyCores = 8

// Set is the devices. It is safe for concurrent use.
type Set struct {
	options Options
	mu      sync.Mutex
	devices []*Device // filled by Open
}

// New makes the set. Nothing is opened before Open.
func New(o Options) *Set { return &Set{options: o} }

// Limits bound what is taken of each device.
func (s *Set) Limits() cuda.Limits { return s.options.Limits }

// Open opens the driver where there is a GPU and looks for devices that may be used; that it fails is the reason why there are none. The first call
// that does not fail decides.
func (s *Set) Open(host *hw.Host) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.devices != nil {
		return nil
	}
	if len(host.GPUs) == 0 {
		return fmt.Errorf("there is no GPU: %s", cmp.Or(host.GPUReason, "none was looked for"))
	}
	driver, err := cuda.Open(s.options.Library)
	if err != nil {
		return err
	}
	all, err := driver.Devices()
	if err != nil {
		return err
	}
	var found []*Device
	var left []string
	for _, facts := range all {
		if len(s.options.Use) > 0 && !slices.Contains(s.options.Use, facts.UUID) {
			left = append(left, facts.UUID+" is not among the configured ones")
			continue
		}
		d := &Device{driver: driver, facts: facts, limits: s.options.Limits, wait: s.options.wait(host), tell: func(string) {}}
		if s.options.Lost != nil {
			d.tell = func(reason string) { s.options.Lost(facts.UUID, reason) }
		}
		found = append(found, d)
	}
	if len(found) == 0 {
		return fmt.Errorf("the CUDA driver shows no device to use: %s", cmp.Or(strings.Join(left, "; "), "it shows none at all, which CUDA_VISIBLE_DEVICES may be the reason for"))
	}
	s.devices = found
	return nil
}

func (o *Options) wait(host *hw.Host) cuda.Wait {
	if o.Wait == "sleep" || o.Wait != "spin" && host.CPU.CoresAllowed < manyCores {
		return cuda.Sleep
	}
	return cuda.Spin
}

// All are the devices that Open found, in the driver's order.
func (s *Set) All() []*Device {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.devices)
}

// Drain takes a device out of use: nothing is put on it any more, until the process ends. Models that are on it stay until they are closed;
// Engine.Reopen moves them.
func (s *Set) Drain(uuid, reason string) {
	for _, d := range s.All() {
		if d.facts.UUID == uuid {
			d.drain(reason)
		}
	}
}

// byLoad are the devices, those in use first that have the fewest models; those that are out of use come before them, so that what they say is
// not the last word.
func (s *Set) byLoad() []*Device {
	type loaded struct {
		d      *Device
		out    bool
		models int
	}
	var all []loaded
	for _, d := range s.All() {
		state := d.State()
		all = append(all, loaded{d, state.Out != "", state.Models})
	}
	slices.SortStableFunc(all, func(x, y loaded) int {
		if x.out != y.out {
			if x.out {
				return -1
			}
			return 1
		}
		return cmp.Compare(x.models, y.models)
	})
	devices := make([]*Device, len(all))
	for i, l := range all {
		devices[i] = l.d
	}
	return devices
}

// Device is one that models can be put on. While there is no model on it nothing of it is held: no context, no memory.
type Device struct {
	driver *cuda.Driver
	facts  cuda.Device
	limits cuda.Limits
	wait   cuda.Wait
	tell   func(reason string) // that it is lost

	mu     sync.Mutex
	models int
	// out is why nothing is put on it any more; empty while it is used. lost tells that nothing on it works any more in this process.
	out  string
	lost bool
	// What there is while there are models.
	context *cuda.Context
	pool    *cuda.Pool
}

// Facts are what the driver says of it.
func (d *Device) Facts() cuda.Device { return d.facts }

// Lease is the stay of one model on a device, whose context and memory it may use until it closes the lease.
type Lease struct {
	*Device
	Context *cuda.Context
	Pool    *cuda.Pool
}

// Lease counts a model on the device, for the first of which the context is made. The error is of one of the engine's kinds.
func (d *Device) Lease() (*Lease, error) {
	l, err := d.lease()
	if err != nil {
		return nil, d.Failed(err)
	}
	return l, nil
}

func (d *Device) lease() (*Lease, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.out != "" {
		return nil, fmt.Errorf("%w: %s is out of use: %s", engine.ErrUnsupported, d.facts.UUID, d.out)
	}
	if d.models == 0 {
		c, err := d.driver.Retain(d.facts, d.wait)
		if err != nil {
			return nil, err
		}
		d.context, d.pool = c, cuda.NewPool(c, d.limits)
	}
	d.models++
	return &Lease{d, d.context, d.pool}, nil
}

// Close ends the stay, after everything that was made in the context is closed. Of a lost device nothing can be given back, nor need it be.
func (l *Lease) Close() error {
	d := l.Device
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.models--; d.models > 0 {
		return nil
	}
	d.pool.Close()
	err := d.context.Release()
	d.pool, d.context = nil, nil
	if errors.Is(err, cuda.ErrLost) {
		return nil
	}
	return err
}

// Suspect looks into an error of a library that uses the device by itself. Where it is one after which the device is lost, or the driver answers
// that it is, the device is out of use from now on, and what the driver says is added to err, which is returned.
func (l *Lease) Suspect(err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, cuda.ErrLost) {
		_, _, asked := l.Context.Memory() // the first call after it that tells, and one that does not wait
		if !errors.Is(asked, cuda.ErrLost) {
			return err
		}
		err = fmt.Errorf("%w; %w", err, asked)
	}
	l.lose(err.Error())
	return err
}

// Lost tells that nothing on the device works any more in this process. A library that uses it by itself may end the process when it is to give
// back what it has there.
func (d *Device) Lost() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

// drain takes the device out of use, for the reason, which the first to do so gives.
func (d *Device) drain(reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.out = cmp.Or(d.out, reason)
}

// Failed is err as the engine is to see it. After what breaks a context the device is out of use.
func (d *Device) Failed(err error) error {
	if errors.Is(err, cuda.ErrLost) {
		d.lose(err.Error())
	}
	return kindOf(err)
}

// lose takes the device out of use because nothing on it works any more, which is told once.
func (d *Device) lose(reason string) {
	d.mu.Lock()
	first := !d.lost && d.out == ""
	d.lost = true
	if d.out == "" {
		d.out = reason
	}
	d.mu.Unlock()
	if first {
		d.tell(reason)
	}
}

// kindOf wraps what the driver answers in the engine's kinds of errors.
func kindOf(err error) error {
	switch {
	case err == nil, errors.Is(err, engine.ErrUnsupported), errors.Is(err, engine.ErrInvalidInput):
		return err
	case errors.Is(err, cuda.ErrMemory):
		return fmt.Errorf("%w: %w", engine.ErrMemory, err)
	}
	return fmt.Errorf("%w: %w", engine.ErrHost, err)
}

// State is a device as it is used.
type State struct {
	UUID   string
	Name   string
	Models int
	// Out is why nothing is put on it any more; empty while it is used.
	Out            string
	Memory, Pinned cuda.Usage
}

// State tells how the device is used.
func (d *Device) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := State{UUID: d.facts.UUID, Name: d.facts.Name, Models: d.models, Out: d.out}
	if d.pool != nil {
		s.Memory, s.Pinned = d.pool.Usage()
	}
	return s
}

// And is err with what went wrong when what had been taken before it was given back. Of a lost device nothing can be given back.
func And(err, also error) error {
	if also == nil || errors.Is(also, cuda.ErrLost) {
		return err
	}
	return fmt.Errorf("%w; and giving back what was taken: %w", err, also)
}
