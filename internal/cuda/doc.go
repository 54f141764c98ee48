// Package cuda is the bare binding of the CUDA driver: one Go method for each of its functions that is used, no policy.
//
// The driver's library, libcuda.so.1, comes with the driver and is opened at run time, so that one program serves hosts with and without a
// GPU; nothing of the CUDA toolkit is needed to build or to run. Why the driver's interface and not the toolkit's runtime is in
// docs/RATIONALE.md.
//
// A [Driver] is the library, a [Context] what the process has of a device: its primary context, which it shares with other libraries that use
// the device. Memory, streams, events and modules belong to a Context and must be closed before it. Every method makes its
// Context current on the calling thread for the length of the call and leaves the thread as it was, so that any goroutine may call it; a
// stream, and what is put into it, is for one goroutine at a time.
//
// Work that was put into a stream goes on after the call: whoever gave it memory keeps that memory until the stream has been waited for.
// Memory of the Go heap is never given: sources and targets of copies are off-heap.
package cuda
