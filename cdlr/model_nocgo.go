//go:build !cgo || !linux

package cdlr

import "unsafe"

// A Model cannot exist in this build. Its methods fail with an error that wraps [ErrUnavailable].
type Model struct{}

// Close does nothing.
func (m *Model) Close() error { return nil }

// Library returns nil.
func (m *Model) Library() *Library { return nil }

// Run fails.
func (m *Model) Run() error { return unavailable() }

// HasMetadata fails.
func (m *Model) HasMetadata() (bool, error) { return false, unavailable() }

// Backend fails.
func (m *Model) Backend() (string, error) { return "", unavailable() }

// NumWeights fails.
func (m *Model) NumWeights() (int, error) { return 0, unavailable() }

// WeightName fails.
func (m *Model) WeightName(int) (string, error) { return "", unavailable() }

// SetNumThreads fails.
func (m *Model) SetNumThreads(int) error { return unavailable() }

// UseCPUAffinity fails.
func (m *Model) UseCPUAffinity(bool) error { return unavailable() }

// NumInputs fails.
func (m *Model) NumInputs() (int, error) { return 0, unavailable() }

// InputName fails.
func (m *Model) InputName(int) (string, error) { return "", unavailable() }

// InputType fails.
func (m *Model) InputType(int) (string, error) { return "", unavailable() }

// InputSizeDim fails.
func (m *Model) InputSizeDim(int) (size int64, dim int, err error) { return 0, 0, unavailable() }

// AppendInputShape fails.
func (m *Model) AppendInputShape(dst []int64, _ int) ([]int64, error) { return dst, unavailable() }

// SetInput fails.
func (m *Model) SetInput(string, []int64, unsafe.Pointer) error { return unavailable() }

// SetInputTensor fails.
func (m *Model) SetInputTensor(string, Tensor) error { return unavailable() }

// SetInputTensorZeroCopy fails.
func (m *Model) SetInputTensorZeroCopy(string, Tensor) error { return unavailable() }

// Input fails.
func (m *Model) Input(string, unsafe.Pointer) error { return unavailable() }

// NumOutputs fails.
func (m *Model) NumOutputs() (int, error) { return 0, unavailable() }

// OutputType fails.
func (m *Model) OutputType(int) (string, error) { return "", unavailable() }

// OutputName fails.
func (m *Model) OutputName(int) (string, error) { return "", unavailable() }

// OutputIndex fails.
func (m *Model) OutputIndex(string) (int, error) { return 0, unavailable() }

// OutputSizeDim fails.
func (m *Model) OutputSizeDim(int) (size int64, dim int, err error) { return 0, 0, unavailable() }

// AppendOutputShape fails.
func (m *Model) AppendOutputShape(dst []int64, _ int) ([]int64, error) { return dst, unavailable() }

// Output fails.
func (m *Model) Output(int, unsafe.Pointer) error { return unavailable() }

// OutputByName fails.
func (m *Model) OutputByName(string, unsafe.Pointer) error { return unavailable() }

// OutputPtr fails.
func (m *Model) OutputPtr(int) (unsafe.Pointer, error) { return nil, unavailable() }

// OutputTensor fails.
func (m *Model) OutputTensor(int, Tensor) error { return unavailable() }

// OutputManagedTensor fails.
func (m *Model) OutputManagedTensor(int) (*ManagedTensor, error) { return nil, unavailable() }

// Close does nothing.
func (t *ManagedTensor) Close() {}
