package compile

import (
	"bytes"
	"fmt"
	"math"

	"github.com/picket-ml/picket/internal/ensemble"
)

// EngineBranches is the name of [Branches].
const EngineBranches = "branches"

// Branches compiles the splits of each tree to comparisons and jumps.
func Branches() Engine {
	return Engine{
		Name: EngineBranches,
		// -O1 is all that comparisons and jumps need; -O2 takes half as long again for code that is no faster. Only the loop
		// over a row's values wants vectors, and to be none where the row is short.
		Flags:   []string{"-O1", "-ftree-loop-vectorize", "-fpeel-loops"},
		Sources: branches,
	}
}

// branches gives a file for every unit and one that calls them all.
func branches(e *ensemble.Ensemble, _ string) (map[string][]byte, error) {
	p, err := newPlan(e)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"margins.c": p.callers()}
	digits := len(fmt.Sprint(len(e.Trees)))
	for i, u := range p.units {
		// Sorted by name, the trees are linked in their order.
		name := fmt.Sprintf("trees-%0*d-%0*d.c", digits, u.trees[0], digits, u.trees[len(u.trees)-1])
		if e.Groups > 1 {
			name = fmt.Sprintf("group-%0*d-%s", len(fmt.Sprint(e.Groups)), u.group, name)
		}
		files[name] = p.source(i)
	}
	return files, nil
}

// callers writes the C of the mapping from values to integers and of the sums.
func (p *plan) callers() []byte {
	b := &bytes.Buffer{}
	b.WriteString("#include <stdint.h>\n")
	for i := range p.units {
		fmt.Fprintf(b, "%s;\n", p.prototype(i))
	}
	p.ranks(b)
	p.margins(b)
	return b.Bytes()
}

// ranks writes the function that fills a row's array of integers. Loops over whole views, so that the compiler can use
// vectors.
func (p *plan) ranks(b *bytes.Buffer) {
	n := len(p.features)
	if n == 0 {
		return
	}
	b.WriteString("static void ranks(const int32_t *row, int32_t *k) {\n")
	read := "row[i]"
	if int(p.features[n-1]) != n-1 { // some columns are not used
		fmt.Fprintf(b, "static const int32_t column[%d] = {", n)
		for _, f := range p.features {
			fmt.Fprintf(b, "%d,", f)
		}
		b.WriteString("};\n")
		read = "row[column[i]]"
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

// margins writes the function that sums the trees of every group; see [Engine].
func (p *plan) margins(b *bytes.Buffer) {
	sum := sumType(p.e)
	fmt.Fprintf(b, "%s {\n", marginsPrototype(p.e))
	k := "0"
	if len(p.features) > 0 {
		storage := ""
		if p.slots > stackSlots {
			storage = "static _Thread_local "
		}
		fmt.Fprintf(b, storage+"int32_t array[%d];\nranks(row, array);\nconst int32_t *k = array + %d;\n", p.slots, p.middle)
		k = "k"
	} else {
		b.WriteString("(void)row;\n")
	}
	b.WriteString(sum + " s;\n")
	next := 0
	for g := range p.e.Groups {
		base := literal(p.e, float64(p.e.BaseMargin[g]))
		start := base
		if p.e.BaseLast {
			start = literal(p.e, 0)
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
