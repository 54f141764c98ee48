package compile

import (
	"bytes"
	"fmt"
	"math"

	"github.com/picket-ml/picket/internal/ensemble"
)

// transformName is what get_pred_transform answers: Treelite has names of its own for several groups.
func transformName(e *ensemble.Ensemble) string {
	if e.Groups > 1 {
		switch e.Objective.Transform {
		case ensemble.Identity:
			return "identity_multiclass"
		case ensemble.Sigmoid:
			return "multiclass_ova"
		}
	}
	return e.Objective.Transform.String()
}

// interfaceSource writes the C of the exported functions, which are the same whatever engine made the margins, and of the
// transform.
func interfaceSource(e *ensemble.Ensemble) []byte {
	b := &bytes.Buffer{}
	b.WriteString("#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n" +
		"union Entry { int missing; float fvalue; int qvalue; };\n")
	fmt.Fprintf(b, "%s;\n", marginsPrototype(e))
	for _, f := range [][3]string{
		{"size_t", "get_num_output_group", fmt.Sprint(e.Groups)},
		{"size_t", "get_num_class", fmt.Sprint(e.Groups)},
		{"size_t", "get_num_feature", fmt.Sprint(e.NumFeature)},
		{"const char *", "get_threshold_type", `"float32"`},
		{"const char *", "get_leaf_output_type", `"float32"`},
		{"const char *", "get_pred_transform", `"` + transformName(e) + `"`},
		{"float", "get_sigmoid_alpha", constant32(float32(e.Objective.SigmoidAlpha))},
		{"float", "get_ratio_c", "1.0f"},
		{"float", "get_global_bias", constant32(e.BaseMargin[0])},
	} {
		fmt.Fprintf(b, "%s %s(void) { return %s; }\n", f[0], f[1], f[2])
	}
	predict(b, e)
	return b.Bytes()
}

// predict writes predict or predict_multiclass.
func predict(b *bytes.Buffer, e *ensemble.Ensemble) {
	sum := sumType(e)
	if e.Groups == 1 {
		b.WriteString("float predict(union Entry *data, int pred_margin) {\n")
	} else {
		b.WriteString("size_t predict_multiclass(union Entry *data, int pred_margin, float *result) {\n")
	}
	average := func(array string) {
		if e.Average {
			fmt.Fprintf(b, "for (int g = 0; g < %d; g++) %s[g] /= %d;\n", e.Groups, array, e.Rounds())
		}
	}
	if transformType(e) == sum {
		fmt.Fprintf(b, "%s m[%d];\npicket_margins(data, m);\nif (!pred_margin) {\n", sum, e.Groups)
		average("m")
	} else {
		// Rounded into an array of its own: GCC 12 with vectors leaves out rounding in place.
		fmt.Fprintf(b, "%s sums[%d];\npicket_margins(data, sums);\nif (!pred_margin) {\n", sum, e.Groups)
		average("sums")
		fmt.Fprintf(b, "}\n%s m[%d];\nfor (int g = 0; g < %d; g++) m[g] = (%s)sums[g];\nif (!pred_margin) {\n",
			transformType(e), e.Groups, e.Groups, transformType(e))
	}
	transform(b, e)
	b.WriteString("}\n")
	if e.Groups == 1 {
		b.WriteString("return (float)m[0];\n}\n")
		return
	}
	fmt.Fprintf(b, "for (int g = 0; g < %d; g++) result[g] = (float)m[g];\nreturn %d;\n}\n", e.Groups, e.Groups)
}

// transformType is the C type in which the transform is computed: that of the sum, but ONNX Runtime transforms in float
// whatever it added in.
func transformType(e *ensemble.Ensemble) string {
	if e.Library == ensemble.ONNX {
		return "float"
	}
	return sumType(e)
}

// transform writes the C that turns the array m in place, in transformType. Functions of <math.h> carry the suffix of
// that type, as the trainers' own do.
func transform(b *bytes.Buffer, e *ensemble.Ensemble) {
	f, all := "f", "double" // XGBoost adds softmax's float32 terms in float64, too
	switch {
	case e.Library == ensemble.ONNX:
		all = "float"
	case e.Wide():
		f = ""
	}
	each := func(format string, args ...any) {
		fmt.Fprintf(b, "for (int g = 0; g < %d; g++) m[g] = %s;\n", e.Groups, fmt.Sprintf(format, args...))
	}
	switch e.Objective.Transform {
	case ensemble.Identity:
	case ensemble.Sigmoid:
		switch e.Library {
		case ensemble.XGBoost: // 88.7 is XGBoost's own bound against overflow
			each("1.0f / (expf(-m[g] < 88.7f ? -m[g] : 88.7f) + 1.0f)")
		case ensemble.ONNX: // 1 - y, which loses digits of small scores, is ONNX Runtime's own way, too
			fmt.Fprintf(b, "for (int g = 0; g < %d; g++) { float y = 1.0f / (1.0f + expf(-fabsf(m[g]))); m[g] = m[g] < 0 ? 1.0f - y : y; }\n", e.Groups)
		default:
			each("1.0 / (1.0 + exp(-%s * m[g]))", literal(e, e.Objective.SigmoidAlpha))
		}
	case ensemble.Exponential:
		each("exp%s(m[g])", f)
	case ensemble.Hinge:
		each("m[g] > 0 ? 1 : 0")
	case ensemble.SignedSquare:
		each("copysign%s(m[g] * m[g], m[g])", f)
	case ensemble.LogOnePlusExp:
		each("log1p%s(exp%s(m[g]))", f, f)
	case ensemble.Softmax:
		fmt.Fprintf(b, "%s top = m[0];\n%s all = 0;\n", transformType(e), all)
		fmt.Fprintf(b, "for (int g = 1; g < %d; g++) if (m[g] > top) top = m[g];\n", e.Groups)
		fmt.Fprintf(b, "for (int g = 0; g < %d; g++) { m[g] = exp%s(m[g] - top); all += m[g]; }\n", e.Groups, f)
		each("m[g] / (%s)all", transformType(e))
	case ensemble.MaxIndex:
		fmt.Fprintf(b, "int best = 0;\nfor (int g = 1; g < %d; g++) if (m[g] > m[best]) best = g;\n", e.Groups)
		b.WriteString("result[0] = (float)best;\nreturn 1;\n")
	}
}

// constant32 writes v, exactly, as a C constant of type float.
func constant32(v float32) string {
	if math.IsInf(float64(v), 1) {
		return "__builtin_inff()"
	}
	return fmt.Sprintf("%xf", v)
}
