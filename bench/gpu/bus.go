//go:build cgo && linux

package main

import (
	"errors"

	"github.com/picket-ml/picket/internal/cuda"
	"github.com/picket-ml/picket/tensor"
)

// rates are bytes a second, in GB/s.
type rates struct{ in, out float64 }

// busBytes is what is copied at a time: as much as the largest call of the benchmark.
const busBytes = 128 << 20

// bandwidth is what copies from and to pinned memory reach by themselves, by the device's own clock: the best of so many.
func bandwidth(library string, times int) (r rates, err error) {
	driver, err := cuda.Open(library)
	if err != nil {
		return r, err
	}
	devices, err := driver.Devices()
	if err != nil {
		return r, err
	}
	c, err := driver.Retain(devices[0], cuda.Spin)
	if err != nil {
		return r, err
	}
	pool := cuda.NewPool(c, cuda.Limits{})
	defer func() {
		pool.Close()
		err = errors.Join(err, c.Release())
	}()
	host, err := pool.Pinned(busBytes)
	if err != nil {
		return r, err
	}
	defer host.Release()
	device, err := pool.Alloc(busBytes)
	if err != nil {
		return r, err
	}
	defer pool.Free(device)
	s, err := c.NewStream()
	if err != nil {
		return r, err
	}
	defer s.Close()
	before, err := c.NewEvent(true)
	if err != nil {
		return r, err
	}
	defer before.Close()
	after, err := c.NewEvent(true)
	if err != nil {
		return r, err
	}
	defer after.Close()
	shape, err := tensor.NewShape(busBytes)
	if err != nil {
		return r, err
	}
	memory, err := tensor.In("host", tensor.Uint8, shape, host, 0)
	if err != nil {
		return r, err
	}
	at := tensor.Pointer(memory)
	time := func(work func() error) (float64, error) {
		if err := errors.Join(s.Record(before), work(), s.Record(after), s.Synchronize()); err != nil {
			return 0, err
		}
		took, err := after.Since(before)
		return busBytes / max(took.Seconds(), 1e-9) / 1e9, err
	}
	for range times {
		in, err := time(func() error { return s.CopyIn(device.At, at, busBytes) })
		if err != nil {
			return r, err
		}
		out, err := time(func() error { return s.CopyOut(at, device.At, busBytes) })
		if err != nil {
			return r, err
		}
		r.in, r.out = max(r.in, in), max(r.out, out)
	}
	return r, nil
}
