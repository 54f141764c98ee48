//go:build cgo && linux

package forest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/hw"
)

// TestFamilies says which kernels the other tests have run, for the record of a run with -v: a host has not always all.
func TestFamilies(t *testing.T) {
	var run, absent []string
	for _, host := range hosts(t) {
		run = append(run, familyOf(host).name)
	}
	for _, f := range append(families[:], plainFamily) {
		if !slices.Contains(run, f.name) {
			absent = append(absent, f.name)
		}
	}
	if !slices.Contains(run, plainFamily.name) {
		t.Errorf("with everything masked there is still %v", run)
	}
	t.Logf("kernels that run here: %s; not run, because the processor lacks them: %s", strings.Join(run, " "), strings.Join(absent, " "))
}

// TestRandomForests does what TestKernels does for forests of random shapes.
func TestRandomForests(t *testing.T) {
	rows, slices, forests := 0, 0, 64
	if testing.Short() {
		forests = 24
	}
	for seed := range uint64(forests) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 9))
			s := randomShape(r)
			e := randomForest(r, s)
			values := randomRows(r, e, 1100)
			for _, host := range hosts(t) {
				row, slice := tryKernels(t, host, e, values)
				rows, slices = rows+int(flag(row)), slices+int(flag(slice))
			}
			if t.Failed() {
				t.Logf("the shape is %+v", s)
			}
		})
	}
	t.Logf("row kernels have run %d times, slice kernels %d times", rows, slices)
	if most := forests * (len(hosts(t)) - 1); rows < most/5 || slices < most/2 { // all hosts but the portable one have both
		t.Errorf("row kernels have run %d times of %d, slice kernels %d times: the shapes leave out too much", rows, most, slices)
	}
}

// TestKernels holds every kernel that this host can run against the kernel in Go, bit for bit.
func TestKernels(t *testing.T) {
	for _, host := range hosts(t) {
		t.Run(familyOf(host).name, func(t *testing.T) {
			for name, s := range shapes {
				t.Run(name, func(t *testing.T) {
					for seed := range uint64(2) {
						r := rand.New(rand.NewPCG(seed, 3))
						e := randomForest(r, s)
						tryKernels(t, host, e, randomRows(r, e, 700))
					}
				})
			}
		})
	}
}

// tryKernels tells whether the host and the forest have a row kernel and a slice kernel.
func tryKernels(t *testing.T, host *hw.Host, e *ensemble.Ensemble, rows []float32) (row, slice bool) {
	t.Helper()
	p := newPlan(e)
	n := len(rows) / e.NumFeature
	want := make([]float64, n*e.Groups)
	reference{p}.margins(rows, n, want, make([]float32, len(p.views)))

	g, err := newProgram(p, host, false)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	calibrated := g.choice
	family := g.family.number
	choices := map[string]choice{"plain": {}, "calibrated": calibrated}
	row, slice = g.forest.row_registers != 0, g.forest.slice_width != 0
	if row {
		choices["row"] = rowOnly(family)
	}
	if slice {
		choices["slice"] = sliceOnly(family, 8*g.family.width)
	}
	for name, c := range choices {
		g.choice = c
		for _, n := range batches(n) {
			compare(t, fmt.Sprintf("%s %s, %d rows", g.family.name, name, n), margins(t, g, p, rows, n), want[:n*e.Groups])
		}
	}
	return row, slice
}

// batches are numbers of rows up to most: of every class that a kernel treats in its own way one, another one each time.
func batches(most int) []int {
	out := []int{1, 2, 64, 65, most}
	for n := 3; n < most; n += 1 + n/2 + rand.IntN(1+n/2) {
		out = append(out, n)
	}
	return out
}

// TestRowSlots: the shapes above bring up every way to lay out the ranks of a row, and every reason not to but one: a tree
// in which something lies too far from what leads to it.
func TestRowSlots(t *testing.T) {
	large := shapes["one large tree"]
	large.depth = 17
	var a arena
	if got := newPlan(randomForest(rand.New(rand.NewPCG(0, 3)), large)).layRows(&a); got.registers != 0 || a.size != 0 {
		t.Errorf("a tree of 2^17 leaves has a row layout of %d bytes", a.size)
	}
	for name, want := range map[string]rowTables{
		"depth 6":             {registers: 1, copies: 32},
		"depth 5, wide":       {registers: 2, copies: 64},
		"depth 8, 100":        {registers: 4, copies: 128},
		"a hundred columns":   {registers: 4, copies: 256},
		"hundreds of columns": {},
		"sets":                {},
	} {
		var a arena
		got := newPlan(randomForest(rand.New(rand.NewPCG(0, 3)), shapes[name])).layRows(&a)
		if got.registers != want.registers || got.copies != want.copies {
			t.Errorf("%s: %d registers and copies %d bytes apart, want %d and %d", name, got.registers, got.copies, want.registers, want.copies)
		}
	}
}

// TestManySmallTrees: a tree of depth 4 among very many of one leaf must not give each of them room for eight more blocks.
func TestManySmallTrees(t *testing.T) {
	e := randomForest(rand.New(rand.NewPCG(0, 3)), shapes["depth 5, wide"])
	leaf := ensemble.Tree{Nodes: []ensemble.Node{{Op: ensemble.Leaf, Value: 0.5}}, Scale: 1}
	for range maxTwoTrees {
		e.Trees = append(e.Trees, leaf)
	}
	var a arena
	if got := newPlan(e).layRows(&a); got.registers == 0 || got.two || a.size > 128*len(e.Trees) {
		t.Errorf("%d trees take %d bytes in %d registers, two blocks for each: %v", len(e.Trees), a.size, got.registers, got.two)
	}
}
