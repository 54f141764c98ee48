// Package ensemble holds a tree ensemble exactly as its training library wrote it, and reads it from that library's
// own model files: XGBoost's JSON and UBJSON (1.0 to 3.x, boosters gbtree and dart), XGBoost's binary format (0.90 to
// 3.0; what SageMaker's built-in algorithm leaves as xgboost-model, and what XGBoost reads no longer), LightGBM's text
// model, and ONNX files with one TreeEnsembleClassifier or TreeEnsembleRegressor, as skl2onnx and onnxmltools write
// them. Pickles and Treelite checkpoints are recognised and refused with a sentence that says what to do.
//
// The model is complete: with nothing but an Ensemble, margins equal the trainer's bit for bit. [Ensemble.Margin] does
// so slowly and plainly, and is the reference for everything faster (the compiled artifacts of packaging/compile, the
// kernels of a forest engine).
//
// # How close
//
// Margins are bit-exact: XGBoost adds float32 leaf values in tree order to the base margin in float32; LightGBM
// compares and adds in float64. XGBoost's binary files from before 1.0 hold the base margin itself. Dart of 0.90 dropped
// trees at random when it predicted without ntree_limit; margins here are those with all trees.
//
// Two steps use the C library's logarithm and exponential, whose last bit is the
// library's own: a base score that the objective turns into a margin (correctly rounded here; glibc's logf differs in
// its last bit for about one value in 1,100) and the transforms of [Ensemble.Predict] (within 2 units in the last
// place of the trainer's output).
//
// # ONNX
//
// The meaning of an ONNX file is what ONNX Runtime computes from it (held against 1.20), also where the standard is
// silent: thresholds and leaves are float32, or float64 where the operator reads an input of double; the base value is
// added after the leaves; the transform is computed in float32. Margins equal ONNX Runtime's with one thread bit for
// bit. With several threads it splits the sum of more than 80 trees (one row, or 50 rows and more) into as many parts
// as there are threads, so its own answers differ from batch to batch (by up to 4.8e-6 for 500 trees on two threads).
//
// Served is the output of scores, not that of labels, which is the greatest score. A classifier of two classes with
// one score s has the columns 1 - s and s in ONNX Runtime; here it has one output, s, the score of the second class.
// [Ensemble.ClassLabels] names the classes. A tree whose leaves score several classes becomes one tree per class.
// Around the trees Identity, Cast, ZipMap and what only makes labels are passed over; any other operator is refused by
// name, and so are BRANCH_EQ and BRANCH_NEQ, MIN and MAX, PROBIT and SOFTMAX_ZERO.
//
// # Model files are untrusted
//
// Lengths are checked before memory is taken, nesting and depth are limited, and what a reader allocates is bounded by
// a small multiple of the size of the file. Every refusal is one sentence that says what is wrong.
package ensemble
