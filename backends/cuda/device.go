package cuda

import (
	_ "embed" // the kernels
	"errors"
	"sync"

	"github.com/picket-ml/picket/internal/cuda"
	"github.com/picket-ml/picket/internal/cuda/devices"
)

// kernels are compiled from kernel/forest.cu by scripts/cuda-kernels.sh.
//
//go:embed kernel/forest.ptx
var kernels []byte

// device is one that models can be opened on, with the kernels that are loaded there while there are models of this backend.
type device struct {
	*devices.Device
	slots    int         // of an instance
	timeline func(Chunk) // nil for nobody

	mu        sync.Mutex // held while that of the Device is taken, never the other way round
	models    int
	module    *cuda.Module
	functions map[string]cuda.Function
}

// enter takes a place for a model, for the first of which the kernels are compiled.
func (d *device) enter() (*devices.Lease, error) {
	l, err := d.Lease()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.models == 0 {
		if err := d.load(l.Context); err != nil {
			return nil, d.Failed(devices.And(err, l.Close()))
		}
	}
	d.models++
	return l, nil
}

// load is called with the lock.
func (d *device) load(c *cuda.Context) (err error) {
	m, err := c.Load(kernels)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = devices.And(err, m.Close())
		}
	}()
	functions := map[string]cuda.Function{}
	for _, name := range []string{"picket_forest_f32", "picket_forest_f64", "picket_forest_sets_f32", "picket_forest_sets_f64"} {
		f, err := m.Function(name)
		if err != nil {
			return err
		}
		if err := m.AllowShared(f, d.Facts().Shared); err != nil {
			return err
		}
		functions[name] = f
	}
	d.module, d.functions = m, functions
	return nil
}

// leave is the end of a model. Of a lost device nothing can be given back, nor need it be.
func (d *device) leave(l *devices.Lease) (err error) {
	d.mu.Lock()
	if d.models--; d.models == 0 {
		if err = d.module.Close(); errors.Is(err, cuda.ErrLost) {
			err = nil
		}
		d.module, d.functions = nil, nil
	}
	d.mu.Unlock()
	return errors.Join(err, l.Close())
}
