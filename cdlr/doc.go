// Package cdlr is the bare binding of libdlr, the runtime of SageMaker Neo (neo-ai-dlr): one Go method per C
// function, no policy. It covers the C API from DLR 1.0 to 1.10. The library is opened at run time; a function that it
// lacks is a [MissingFunctionError] that names the version it came with, and [Library.Have] asks beforehand.
//
// The package imports nothing of this module, so that it can be read, tested and reused by itself. That is why it
// has a dozen lines of dlopen of its own, which also differ from those of ordinary libraries: libdlr is never unmapped.
//
// # Ownership and threads
//
// A [Library] owns the loader's handle, a [Model] owns a DLRModelHandle; both have a Close that must be called, and are
// reported in the log when they are dropped without it. Nothing is freed by the garbage collector.
//
// Arguments are borrowed for the call: libdlr copies what it keeps, and no function retains Go memory, with two
// exceptions, which take memory from outside the Go heap for longer: [Model.SetInputTensorZeroCopy] and the custom
// allocators. Strings are copied in both directions. Where a method takes or returns an [unsafe.Pointer] to data, its
// comment says how many bytes are read or written: libdlr does not know the size of the memory it is given.
//
// A Model serves one call at a time, on any thread; libdlr has no locks. It is best kept on one OS thread: TVM has a
// thread pool per calling thread. Different models may run at once. The methods of a Library are safe for
// concurrent use, but those that create models read the process environment, and [Model.SetNumThreads] and
// [Model.UseCPUAffinity] change it: do that before other threads exist.
//
// # What libdlr does that one would not expect
//
// Found in 1.6.0, the last version whose binary is published, and in the sources up to 1.10:
//
//   - Each [Model.SetInput] of a tree model leaks about 47 bytes (1.6), and creating and deleting a model leaks a thread.
//     A process that reloads models for months notices.
//   - The number of threads comes from the environment: OMP_NUM_THREADS for tree models, read when one is created;
//     TVM_NUM_THREADS for TVM models, read when TVM starts its pool. SetDLRNumThreads sets the latter for
//     the whole process.
//   - Creating a model prints a line "filename: …" per file to standard output.
//   - Of a folder it takes the .json file for the graph (model-shapes.json and hyperparams.json are known not to be one,
//     version.json is not: its check compares the whole path), the .so that is not libdlr.so for the model,
//     .params, .meta and .ro. Two of a kind are an error.
//   - Tree models take an exact 0.0 for missing (up to 1.6; later only if compiled.meta has Model.SparseInput "1"), and
//     every NaN.
//   - Several functions log their reason to standard error instead of setting the last error: all that create models,
//     GetDLROutputName, GetDLROutputIndex, GetDLRDeviceType. Their [Error] then has no Message.
//   - A compiled.meta whose JSON has another shape than expected ends the process: the exception is of a class that
//     libdlr does not catch. Check the file before.
//   - The loader finds a library that is already loaded by its path, and 1.6 never unloads that of a tree model. So creating
//     a model from a path whose compiled.so was replaced gives the code that was first loaded from there, even
//     after the old model was closed. Use a new folder for new files.
//   - For TVM models with several inputs, names are sorted, but types and shapes are in the order of the graph and count
//     the weights in (1.6): of such models trust compiled.meta instead.
//   - Versions cannot be mixed in one process: parts of TVM's state are unique per process (STB_GNU_UNIQUE), even between
//     libraries opened from different files.
package cdlr
