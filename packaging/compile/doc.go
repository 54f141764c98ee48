// Package compile turns a model file into an artifact folder in the layout of SageMaker Neo: compiled.so, compiled.meta
// and, beside them, the model file itself under a name that DLR does not count. The machine code is C that an engine and
// this package write and the host's C compiler translates.
//
// # What the artifact answers
//
// Margins equal the trainer's bit for bit: XGBoost's leaf values are added in float32, in tree order, to the base
// margin; LightGBM's in float64, in tree order, with one rounding to float32 at the end. A row is float32: LightGBM's
// test x <= t on float64 is the same as x <= (t rounded down to float32) for every float32 x, and is compiled so.
// Transformed predictions are computed in the trainer's precision (float32 for XGBoost, float64 for LightGBM) with the
// exp and log of the C library the artifact runs on, so they equal what the trainer computes with that library, within
// a unit in the last place where its own build uses another.
//
// Every NaN is a missing value, also the one with all bits set that callers write as union Entry{.missing = -1}.
//
// # The interface
//
// The artifact exports what Treelite 0.93 artifacts do and what later ones do, so that every libdlr loads it:
// get_num_output_group, get_num_class, get_num_feature, get_threshold_type and get_leaf_output_type ("float32"),
// get_pred_transform, get_sigmoid_alpha, get_ratio_c, get_global_bias, and predict (one margin per row) or
// predict_multiclass (several). Everything is reentrant and keeps no state.
//
// # Engines
//
// An [Engine] makes the code of a row's margins; everything else is the same for all. [Branches] is this package's own:
//
// A row's values are first turned into integers that sort like the values (with missing at the low or the high end,
// depending on the default direction of the split that asks), so that a split is one comparison of a memory operand
// with an immediate. A tree is a function; a split jumps where fewer training rows went and falls through where more
// did. The lowest two levels have no branches, because theirs are the least predictable: their comparisons index a
// table of leaves. The code depends on the model alone, so the same compiler gives the same bytes.
package compile
