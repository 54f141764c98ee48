// Package cuda is the backend that runs the file of a tree model on an NVIDIA GPU, for large batches.
//
// # What it opens
//
// What backend forest opens (XGBoost, LightGBM, ONNX trees, alone or beside the library that was compiled from them), where no tree has more
// than 65,535 nodes and no split looks at a column behind the 16,383rd. It matches an artifact a little less well than forest does, so that
// forest is what its answers are held against, and it is chosen where it is clearly faster with as many rows as requests are expected to have
// (expected_rows), or asked for by name.
//
// # What it answers
//
// Margins equal the trainer's bit for bit, as those of forest do: a row's leaves are added by one thread, in the order of the trees, one
// rounding each. Sigmoid, exponential and softmax are computed on the GPU in the steps of ensemble.Exp, with the same bits as everywhere; other
// transforms on the host.
//
// # How it is fast
//
// The kernel (kernel/forest.cu says how) is PTX that is part of the program and that the driver compiles for the GPU it finds. Around it, what
// there is to gain is that the copies do not wait for the kernel nor it for them:
//
//   - Many rows go in chunks of some megabytes through three slots, each a stream with memory of its own: while one chunk is
//     computed, the next is copied in and the one before copied out. The GPU has engines of their own for both directions.
//   - Requests have their tensors in pinned memory that the driver copies from and to directly (engine.Allocator), so that the host's
//     processors touch the rows once, when they arrive. Other memory is copied through pinned memory, chunk by chunk, and overlaps the same.
//   - Rows that fit one chunk, where there is no other to overlap with, are not copied at all: the kernel reads them from pinned memory, each
//     value once, and writes the predictions there. One call into the driver instead of three, and no engine waits for another.
//
// A thread that waits for the GPU keeps its processor where there are many, and elsewhere looks for as long as being woken takes and sleeps then
// (devices.Options.Wait).
//
// # When something is wrong
//
// Out of memory is engine.ErrMemory, at load or for one request, and nothing else happens. After errors that leave a context broken, the device
// is lost for this process: the set of devices says so once, nothing is opened on it any more, and all runs on it fail with a sentence until the
// daemon has opened the models again elsewhere. It is the same for a device that was taken out of use (devices.Set.Drain), but that its models go
// on running meanwhile.
//
// # Several devices
//
// Which device a model is on, or which, package devices decides (engine.OpenOptions.GPUs). Each has all of it.
package cuda
