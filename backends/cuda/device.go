package cuda

import (
	_ "embed" // the kernels
	"errors"
	"fmt"
	"sync"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda"
)

// kernels are compiled from kernel/forest.cu by scripts/cuda-kernels.sh.
//
//go:embed kernel/forest.ptx
var kernels []byte

// device is one that models can be opened on. While there is no model on it nothing of it is held: no context, no memory.
type device struct {
	driver *cuda.Driver
	facts  cuda.Device
	limits cuda.Limits
	slots  int                 // of an instance
	tell   func(reason string) // that it is lost

	mu     sync.Mutex
	models int
	// out is why nothing is opened on it any more; empty while it is used.
	out string
	// What there is while there are models.
	context   *cuda.Context
	module    *cuda.Module
	functions map[string]cuda.Function
	pool      *cuda.Pool
}

// use counts a model, for the first of which the context is made and the kernels are compiled.
func (d *device) use() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.out != "" {
		return fmt.Errorf("%w: %s is out of use: %s", engine.ErrUnsupported, d.facts.UUID, d.out)
	}
	if d.models == 0 {
		if err := d.open(); err != nil {
			return err
		}
	}
	d.models++
	return nil
}

// open is called with the lock.
func (d *device) open() (err error) {
	defer func() {
		if err != nil {
			err = and(err, d.shut())
		}
	}()
	if d.context, err = d.driver.Retain(d.facts); err != nil {
		return err
	}
	if d.module, err = d.context.Load(kernels); err != nil {
		return err
	}
	d.functions = map[string]cuda.Function{}
	for _, name := range []string{"picket_forest_f32", "picket_forest_f64", "picket_forest_sets_f32", "picket_forest_sets_f64"} {
		f, err := d.module.Function(name)
		if err != nil {
			return err
		}
		if err := d.module.AllowShared(f, d.facts.Shared); err != nil {
			return err
		}
		d.functions[name] = f
	}
	d.pool = cuda.NewPool(d.context, d.limits)
	return nil
}

// shut gives everything back; it is called with the lock. Of a lost device nothing can be given back, nor need it be.
func (d *device) shut() (err error) {
	if d.pool != nil {
		d.pool.Close()
	}
	if d.module != nil {
		err = d.module.Close()
	}
	if d.context != nil {
		err = errors.Join(err, d.context.Release())
	}
	d.pool, d.module, d.context, d.functions = nil, nil, nil, nil
	if errors.Is(err, cuda.ErrLost) {
		return nil
	}
	return err
}

// and is err with what went wrong when what had been taken before it was given back. Of a lost device nothing can be given back.
func and(err, also error) error {
	if also == nil || errors.Is(also, cuda.ErrLost) {
		return err
	}
	return fmt.Errorf("%w; and giving back what was taken: %w", err, also)
}

// leave is the end of a model.
func (d *device) leave() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.models--; d.models > 0 {
		return nil
	}
	return d.shut()
}

// drain takes the device out of use, for the reason, which the first to do so gives. It tells whether it was in use until then.
func (d *device) drain(reason string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.out != "" {
		return false
	}
	d.out = reason
	return true
}

// failed is err as the engine is to see it. After what breaks a context the device is out of use.
func (d *device) failed(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, cuda.ErrLost) && d.drain(err.Error()) {
		d.tell(err.Error())
	}
	return kindOf(err)
}

// kindOf wraps what the driver answers in the engine's kinds of errors.
func kindOf(err error) error {
	switch {
	case errors.Is(err, engine.ErrUnsupported), errors.Is(err, engine.ErrInvalidInput):
		return err
	case errors.Is(err, cuda.ErrMemory):
		return fmt.Errorf("%w: %w", engine.ErrMemory, err)
	}
	return fmt.Errorf("%w: %w", engine.ErrHost, err)
}

// Device is a device as the backend uses it.
type Device struct {
	UUID   string
	Name   string
	Models int
	// Out is why nothing is opened on it any more; empty while it is used.
	Out            string
	Memory, Pinned cuda.Usage
}

func (d *device) describe() Device {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Device{UUID: d.facts.UUID, Name: d.facts.Name, Models: d.models, Out: d.out}
	if d.pool != nil {
		s.Memory, s.Pinned = d.pool.Usage()
	}
	return s
}
