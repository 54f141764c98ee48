// Package onnx is the backend that runs ONNX models through ONNX Runtime, which is opened at run time: one binary serves
// hosts with and without it.
//
// # Which library
//
// The one that Options.LibraryPath names, or PICKET_ONNXRUNTIME in the environment; else what the loader finds as
// libonnxruntime.so.1 or libonnxruntime.so; else one in the folders where it is put by hand. 1.18 or later is needed. A
// process has one: the first that a Backend opens.
//
// # What is checked before the library sees a model
//
// The file is read once, and walked as what it is, a protocol buffers message, by a reader that knows where a model may name
// other files ([examine]). Weights outside the model are opened below the artifact's root and handed over as bytes, so that
// the library opens no file at all. A model that names a file elsewhere, or keeps weights outside in any place but the list
// of its main graph, is refused. What is checked is what runs, because both are the same bytes.
//
// The rest is the library's: a graph is a program, which may ask for any amount of memory and time. As all models, ONNX
// models are trusted as far as their signature says; see docs/SECURITY.md.
//
// # What a model gives
//
// The names and element types are the model's. Its first dimension is rows where the model leaves it open, or where it is
// fixed at the same number in every input and output and rows do not depend on each other, which is tried when the model is
// opened: then any number of rows is run in parts of the fixed number, and the last part is filled up. Other open dimensions
// are refused, and so are texts, sequences and maps. Shapes of outputs that the file does not tell are found by running the
// model on made-up rows.
//
// A row's answer may depend in its last digits on how many rows are run together, because the library's matrix products add up
// in another order. A model whose rows depend on each other beyond that gets no company from other requests.
//
// # Threads and memory
//
// Sessions are shared by all instances of a model. A model of which a row takes less than a millisecond runs on the thread
// that calls, and has no other. One that takes longer shares the pool of the process, which has a thread for every core,
// unless the engine gives it fewer threads or cores of its own: then it has as many, on those. No thread spins. A run of
// many rows gives the memory that it took back when it ends, everything else when the model is closed.
//
// # GPUs
//
// A model on a GPU holds a lease on it (package devices), which says which GPU that is, has pinned memory for requests, and is where the backend tells
// that the GPU is lost: because the library gives a number of CUDA's that says so, or because the driver does when it is asked after a run that
// failed. The session of a lost GPU is not closed, because the library's destructors throw where CUDA does not answer. How much the library takes of a
// GPU its own arena decides, up to the limit that the set of devices has.
package onnx
