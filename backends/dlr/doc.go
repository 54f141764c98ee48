// Package dlr is the backend that runs SageMaker Neo's artifacts through
// libdlr, the runtime they were made for. It is the reference that the direct
// backends are compared with, and the way to run what they do not: Relay VM
// programs, and TVM graphs that need TVM's runtime.
//
// # Which libdlr
//
// The one that Options.LibraryPath names; else the libdlr.so that came in the
// artifact's folder; else the system's. A Relay VM program runs only with a
// libdlr of the version that compiled it, which is the one it brings. A library
// that several artifacts bring, told by its content, is opened once. Different
// builds of one version run side by side; a second version is refused, because
// parts of TVM are defined once per process by whichever library came first.
// None is unloaded: libdlr leaves threads and symbols behind that the loader
// keeps for good.
//
// # How its answers differ
//
// libdlr up to 1.6 takes an exact 0.0 in the input of a tree model for a missing
// value, whatever compiled.meta says. From 1.7 on it does so only where
// compiled.meta has Model.SparseInput "1". The treelite backend follows 1.7. So
// on rows with zeros, the same artifact without SparseInput gives different
// answers here, with a libdlr of 1.6, than there; on rows without zeros both
// give the same bits. Where that matters, put a tiny number such as 1e-40 in
// place of the zeros, which is on the same side of every split.
//
// # What it costs
//
//   - libdlr reads a folder by its path, so what is checked is not, as with the
//     treelite backend, a sealed copy: whoever can write to the folder while it
//     is being opened can change what runs.
//   - libdlr prints a line "filename: ..." per file to standard output when it
//     opens a model, and nothing in its interface stops it. A program that
//     uses this backend keeps its own data off standard output; redirecting the
//     descriptor for the time of the call would lose what others write
//     meanwhile.
//   - The number of threads is a setting of the process, read from
//     OMP_NUM_THREADS (trees) and TVM_NUM_THREADS (graphs). The backend sets
//     both from Options.Threads before it opens its first library, and
//     TVM_BIND_THREADS to 0, without which a graph binds each thread that runs
//     it to the first processor, so that two instances are no faster than one.
//     It leaves alone what the environment already says.
//   - 1.6 loses some 50 bytes with every tensor set, and where it was allowed
//     more than one thread, threads with every model deleted. A tree model is
//     better served by the treelite backend.
//   - libdlr trusts what it reads. The model's library, compiled.meta, and graph and
//     parameters of a TVM model are checked here before it sees them, because damage
//     in them ends the process; of a Relay VM program only the version is.
//   - Opening a library or an artifact runs code of whoever made it.
package dlr
