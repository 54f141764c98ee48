// Package ensemble holds a tree ensemble exactly as its training library wrote it, and reads it from that library's
// own model files: XGBoost's JSON and UBJSON (1.0 to 3.x, boosters gbtree and dart) and LightGBM's text model.
//
// The model is complete: with nothing but an Ensemble, margins equal the trainer's bit for bit. [Ensemble.Margin] does
// so slowly and plainly, and is the reference for everything faster (the compiled artifacts of packaging/compile, the
// kernels of a forest engine).
//
// # How close
//
// Margins are bit-exact: XGBoost adds float32 leaf values in tree order to the base margin in float32; LightGBM
// compares and adds in float64. Two steps use the C library's logarithm and exponential, whose last bit is the
// library's own: a base score that the objective turns into a margin (correctly rounded here; glibc's logf differs in
// its last bit for about one value in 1,100) and the transforms of [Ensemble.Predict] (within 2 units in the last
// place of the trainer's output).
//
// # Model files are untrusted
//
// Lengths are checked before memory is taken, nesting and depth are limited, and what a reader allocates is bounded by
// a small multiple of the size of the file. Every refusal is one sentence that says what is wrong.
package ensemble
