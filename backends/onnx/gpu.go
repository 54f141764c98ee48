package onnx

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/picket-ml/picket/engine"
	driver "github.com/picket-ml/picket/internal/cuda"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/tensor"
)

// gpuModel is a model on a GPU: it has pinned memory for its tensors.
type gpuModel struct{ *model }

// Allocate lends memory that the GPU copies by itself. The library is not told that it is pinned, and need not be: the driver knows, because both
// use the device's primary context. See engine.Allocator.
func (m gpuModel) Allocate(n int) (*tensor.Buffer, error) { return m.lease.Pool.Pinned(n) }

// open loads the model, finds out what it is, and gives its tensors the names that clients know. The errors are Open's.
func (o *opening) open() (*model, error) {
	m, err := o.model()
	if err != nil {
		return nil, err
	}
	if err := m.rename(o.metadata, o.beside); err != nil {
		m.session.end(o.lease)
		return nil, err
	}
	return m, nil
}

// end closes the session, if there is one, or abandons it where it is on a GPU that is lost. The lease, nil for none, stays the caller's.
func (s *session) end(lease *devices.Lease) {
	if s == nil {
		return
	}
	if lease != nil && lease.Lost() {
		s.abandon()
		return
	}
	s.close()
}

// onGPUs opens the model on the GPUs of the set that o's place and options ask for.
func (o opening) onGPUs(set *devices.Set) (engine.Model, error) {
	gpus := o.options.GPUs
	if o.place.device != anyGPU {
		all := set.All()
		gpus = all[slices.IndexFunc(all, o.place.is)].Facts().UUID // it was checked
	}
	return set.Place(gpus, func(d *devices.Device) (engine.Model, error) {
		lease, err := d.Lease()
		if err != nil {
			return nil, err
		}
		one := o
		one.place.device, one.lease = d.Facts().Ordinal, lease
		m, err := one.open()
		if err != nil {
			return nil, devices.And(err, lease.Close())
		}
		return gpuModel{m}, nil
	})
}

// cudaFailure is the number in what the library says of an error of CUDA's, whose numbers are the driver's.
var cudaFailure = regexp.MustCompile(`CUDA failure (\d+)`)

// driverError is err as one of the driver's where the library says that it is.
func driverError(err error) error {
	found := cudaFailure.FindStringSubmatch(err.Error())
	if found == nil {
		return err
	}
	code, atoi := strconv.Atoi(found[1])
	if atoi != nil {
		return err
	}
	return &cudaError{err, &driver.Error{Code: code}}
}

// cudaError is what the library says, with the driver's error behind it.
type cudaError struct {
	error
	behind *driver.Error
}

// Is makes it driver.ErrMemory, driver.ErrLost or neither.
func (e *cudaError) Is(target error) bool { return e.behind.Is(target) }

// Unwrap is what the library says.
func (e *cudaError) Unwrap() error { return e.error }

// noRoom is what CUDA's libraries say who have numbers of their own.
var noRoom = regexp.MustCompile(`(?i)(?:CUBLAS|CUDNN|CURAND|CUFFT) failure \d+: .*alloc`)

// outOfMemory tells whether the library had not enough, of main memory or of the GPU's.
func outOfMemory(err error) bool {
	text := err.Error()
	return strings.Contains(text, "Failed to allocate memory") || strings.Contains(text, "bad_alloc") || noRoom.MatchString(text) || errors.Is(driverError(err), driver.ErrMemory)
}

// lostBy is an error of the library, after which the GPU may be out of use.
func (o *opening) lostBy(err error) error {
	if o.lease == nil {
		return err
	}
	return o.lease.Suspect(driverError(err))
}

// runKind is the engine's kind of an error of a run that is to show whether the model can be run.
func (o *opening) runKind(err error) error {
	switch {
	case outOfMemory(err):
		return engine.ErrMemory
	case o.place.onGPU():
		return engine.ErrHost
	}
	return engine.ErrUnsupported
}
