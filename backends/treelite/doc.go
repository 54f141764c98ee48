// Package treelite is the backend that runs compiled tree models, the
// compiled.so of SageMaker Neo, Treelite and TL2cgen, by calling the library's
// own predict function.
//
// # What it opens
//
// Every generation of the library's interface, recognised by the symbols it
// exports:
//
//   - Treelite up to 0.93, which exports get_num_output_group;
//   - Treelite 1.0 to 3.9 and TL2cgen before 1.0, which export get_num_class and,
//     for models with float64 thresholds (LightGBM), say so;
//   - TL2cgen 1.0, which exports get_num_target and adds into its result.
//
// A library that exports the first two sets, as `picket compile` makes them, is
// taken for the second.
//
// # What it answers
//
// The library's own answer, bit for bit, with its output transform applied, as
// neo-ai-dlr 1.7 and later give it: one input, "data" FP32 [-1, features], and
// one output FP32 [-1, values], where values is 1 for binary models, regression
// and the multi-class models that give the winning class, and otherwise the
// number of classes. Of a TL2cgen model with several targets the output is
// [-1, targets, classes].
//
// NaN, in whichever of its bit patterns, is a missing value. An exact zero is a
// value, unless compiled.meta has Model.SparseInput "1": then zeros of either
// sign are missing too, as neo-ai-dlr has it since 1.7. Its 1.6 takes zeros for
// missing always; package dlr says more.
//
// neo-ai-dlr refuses libraries with float64 leaves. Here they run: the input is
// widened, which is exact, and the answer is rounded once to float32, so that a
// client need not know how a model was compiled; where compiled.meta says that
// the output is float64, it is given as such.
//
// # What it risks
//
// Opening a library runs code of whoever made it, with the rights of this
// process, and no check can change that: the checks here keep mistakes out, not
// malice. Whether an artifact is trusted is the engine.Source's decision and has
// been taken before this package sees it.
package treelite
