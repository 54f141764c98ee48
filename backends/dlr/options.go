package dlr

import "log/slog"

// Options are what a Backend is made with.
type Options struct {
	// LibraryPath is the libdlr to use for every artifact, even one that brings
	// its own. Empty to search; see the package comment.
	LibraryPath string

	// Threads is how many threads libdlr may use for one prediction; below 1 for
	// one. It is a setting of the whole process: the first Backend that opens
	// a library decides, unless the environment has.
	Threads int

	// AlignedAllocator has libdlr take its tensors' memory, aligned as
	// tensor.Buffers are, from this process's allocator rather than from its own.
	// It applies to libraries of 1.6 and later; others ignore it.
	AlignedAllocator bool

	// PinnedBytes has AlignedAllocator serve from one tensor.Buffer of that size,
	// locked in memory, for as long as it has room. The Buffer belongs to the
	// process from then on, because libdlr holds memory in it until the end; the
	// first Backend that asks for one decides the size. 0 for none.
	PinnedBytes int

	// Log receives what cannot be told by an error, such as a library that
	// ignores an option. Nil for slog.Default.
	Log *slog.Logger
}
