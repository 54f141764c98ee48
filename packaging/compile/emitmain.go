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

// main writes the C of the exported functions, of the mapping from values to integers, and of the transform.
func (p *plan) main() []byte {
	b := &bytes.Buffer{}
	b.WriteString("#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n" +
		"union Entry { int missing; float fvalue; int qvalue; };\n")
	for i := range p.units {
		fmt.Fprintf(b, "%s;\n", p.prototype(i))
	}
	e := p.e
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
	p.ranks(b)
	p.margins(b)
	p.predict(b)
	return b.Bytes()
}

// ranks writes the function that fills a row's array of integers. Loops over whole views, so that the compiler can use
// vectors.
func (p *plan) ranks(b *bytes.Buffer) {
	n := len(p.features)
	if n == 0 {
		return
	}
	b.WriteString("static void ranks(const union Entry *data, int32_t *k) {\n")
	read := "data[i].qvalue"
	if int(p.features[n-1]) != n-1 { // some columns are not used
		fmt.Fprintf(b, "static const int32_t column[%d] = {", n)
		for _, f := range p.features {
			fmt.Fprintf(b, "%d,", f)
		}
		b.WriteString("};\n")
		read = "data[column[i]].qvalue"
	}
	fmt.Fprintf(b, "for (int i = 0; i < %d; i++) {\n"+
		"int32_t bits = %s, sign = bits >> 31, size = bits & INT32_MAX, key = (size ^ sign) - sign;\n", n, read)
	const nan = "size > 0x7f800000"
	isZero := fmt.Sprintf("(%s || size <= %d)", nan, math.Float32bits(ensemble.ZeroThreshold))
	for v, expression := range [views]string{
		low:      nan + " ? INT32_MIN : key",
		high:     nan + " ? INT32_MAX : key",
		zero:     nan + " ? 0 : key",
		zeroLow:  isZero + " ? INT32_MIN : key",
		zeroHigh: isZero + " ? INT32_MAX : key",
	} {
		if p.first[v] >= 0 {
			fmt.Fprintf(b, "k[%d + i] = %s;\n", p.first[v], expression)
		}
	}
	b.WriteString("}\n}\n")
}

// stackSlots is how many integers of a row may lie on the caller's stack, which may be a small one. More lie in memory
// of the calling thread.
const stackSlots = 1 << 13

// margins writes the function that sums the trees of every group.
func (p *plan) margins(b *bytes.Buffer) {
	sum := sumType(p.e)
	fmt.Fprintf(b, "static void margins(const union Entry *data, %s *m) {\n", sum)
	k := "0"
	if len(p.features) > 0 {
		storage := ""
		if p.slots > stackSlots {
			storage = "static _Thread_local "
		}
		fmt.Fprintf(b, storage+"int32_t array[%d];\nranks(data, array);\nconst int32_t *k = array + %d;\n", p.slots, p.middle)
		k = "k"
	} else {
		b.WriteString("(void)data;\n")
	}
	b.WriteString(sum + " s;\n")
	next := 0
	for g := range p.e.Groups {
		base := p.literal(float64(p.e.BaseMargin[g]))
		start := base
		if p.e.BaseLast {
			start = p.literal(0)
		}
		fmt.Fprintf(b, "s = %s;\n", start)
		for ; next < len(p.units) && p.units[next].group == g; next++ {
			fmt.Fprintf(b, "s = unit%d(%s, s);\n", next, k)
		}
		if p.e.BaseLast {
			fmt.Fprintf(b, "s = s + %s;\n", base)
		}
		fmt.Fprintf(b, "m[%d] = s;\n", g)
	}
	b.WriteString("}\n")
}

// predict writes predict or predict_multiclass.
func (p *plan) predict(b *bytes.Buffer) {
	e, sum := p.e, sumType(p.e)
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
		fmt.Fprintf(b, "%s m[%d];\nmargins(data, m);\nif (!pred_margin) {\n", sum, e.Groups)
		average("m")
	} else {
		// Rounded into an array of its own: GCC 12 with vectors leaves out rounding in place.
		fmt.Fprintf(b, "%s sums[%d];\nmargins(data, sums);\nif (!pred_margin) {\n", sum, e.Groups)
		average("sums")
		fmt.Fprintf(b, "}\n%s m[%d];\nfor (int g = 0; g < %d; g++) m[g] = (%s)sums[g];\nif (!pred_margin) {\n",
			transformType(e), e.Groups, e.Groups, transformType(e))
	}
	p.transform(b)
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
func (p *plan) transform(b *bytes.Buffer) {
	e, f, all := p.e, "f", "double" // XGBoost adds softmax's float32 terms in float64, too
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
			each("1.0 / (1.0 + exp(-%s * m[g]))", p.literal(e.Objective.SigmoidAlpha))
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
