// Package tensor holds the bytes that models read and write.
//
// A [Buffer] is off-heap, aligned, reference-counted memory. Native code may
// keep a pointer into it for as long as it holds a reference, which it could
// never do with memory of the Go heap. A [Tensor] names a typed, shaped range
// of a Buffer. A [Shape] cannot be constructed with a size that overflows, so
// code that holds one need not check again.
//
// Every conversion between bytes and typed slices of the Go side is in
// view.go. Views onto gorgonia.org/tensor are in the subpackage gorgonia, which
// keeps that module's 160 packages out of programs that do not ask for them.
package tensor
