package backendtest

import (
	"math"
	"slices"
	"sync"
	"testing"
)

func probesAndMatches(t *testing.T, c Case) {
	if c.Backend.Name() == "" {
		t.Error("the backend has no name")
	}
	if n := c.Backend.Match(Artifact(t, c.Dir)); n <= 0 {
		t.Errorf("Match gives %d for an artifact of the backend", n)
	}
	if n := c.Backend.Match(Artifact(t, t.TempDir())); n != 0 {
		t.Errorf("Match gives %d for an empty folder", n)
	}
}

func tellsSignature(t *testing.T, c Case) {
	m := Open(t, c.Backend, c.Dir)
	if got := m.Signature(); !got.Equal(c.Signature) {
		t.Errorf("the signature is %v, want %v", got, c.Signature)
	}
}

func answersAsExpected(t *testing.T, c Case) {
	r := NewRunner(t, Open(t, c.Backend, c.Dir))
	defer r.Close()
	got := r.Run(c.Input)
	if len(got) != len(c.Expected) {
		t.Fatalf("%d answers, want %d", len(got), len(c.Expected))
	}
	for i, want := range c.Expected {
		if sameBits(got[i], want) || math.Abs(float64(got[i])-float64(want)) <= c.Tolerance {
			continue
		}
		t.Fatalf("answer %d is %v (%#x), want %v (%#x) within %g", i, got[i], math.Float32bits(got[i]), want, math.Float32bits(want), c.Tolerance)
	}
}

func answersBatchAsRows(t *testing.T, c Case) {
	m := Open(t, c.Backend, c.Dir)
	if !m.Signature().Batchable() {
		t.Log("the model has no rows")
		return
	}
	r := NewRunner(t, m)
	defer r.Close()
	single := rowByRow(r, c.Input)
	for _, n := range []int{2, 3, 5, 7, 8, 9, 63, 64, 65, 257} {
		if n*r.InRow > len(c.Input) {
			break
		}
		compareWithin(t, "a batch", r.Run(c.Input[:n*r.InRow]), single[:n*r.OutRow], c.BatchTolerance)
	}
	// The order in which sizes come must not matter either.
	compare(t, "one row after a batch", r.Run(c.Input[:r.InRow]), single[:r.OutRow])
}

// rowByRow answers at most the first 300 rows, one call each.
func rowByRow(r *Runner, rows []float32) []float32 {
	var out []float32
	for at := 0; at < len(rows) && at < 300*r.InRow; at += r.InRow {
		out = append(out, r.call(rows[at:at+r.InRow], 0)...)
	}
	return out
}

// compare wants the same bits.
func compare(t *testing.T, what string, got, want []float32) {
	t.Helper()
	compareWithin(t, what, got, want, 0)
}

// compareWithin wants answers that are as close; the same bits where tolerance is 0.
func compareWithin(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d answers, want %d", what, len(got), len(want))
	}
	for i := range want {
		if !near(got[i], want[i], tolerance) {
			t.Fatalf("%s of %d answers: answer %d is %v (%#x), want %v (%#x)", what, len(want), i,
				got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

// oddValues are the float32 values that code gets wrong.
var oddValues = []uint32{
	0x00000000, 0x80000000, // zero of both signs
	0x7f800000, 0xff800000, // infinity of both signs
	0x00000001, 0x80000001, 0x007fffff, 0x000116c2, // subnormal
	0x7f7fffff, 0xff7fffff, 0x00800000, // the largest, the smallest normal
}

// oddNaNs are NaNs that differ in sign, in being quiet, and in payload. The last
// is the pattern that compiled tree models compare with.
var oddNaNs = []uint32{0x7fc00000, 0xffc00000, 0x7f800001, 0xff800001, 0x7fffffff, 0x7fc12345, 0xffffffff}

func answersOddValues(t *testing.T, c Case) {
	r := NewRunner(t, Open(t, c.Backend, c.Dir))
	defer r.Close()
	base := c.Input[:r.InRow]
	with := func(column int, bits uint32) []float32 {
		row := slices.Clone(base)
		row[column] = math.Float32frombits(bits)
		return row
	}
	columns := min(r.InRow, 16)
	for column := range columns {
		for _, bits := range append(slices.Clone(oddValues), oddNaNs...) {
			row := with(column, bits)
			compare(t, "an odd value a second time", r.Run(row), r.Run(row))
		}
		if c.NaNIsMissing {
			missing := r.Run(with(column, oddNaNs[0]))
			for _, bits := range oddNaNs[1:] {
				compare(t, "another NaN", r.Run(with(column, bits)), missing)
			}
			if c.ZeroIsMissing {
				compare(t, "zero as a missing value", r.Run(with(column, 0)), missing)
			}
		}
		compare(t, "negative zero", r.Run(with(column, 0x80000000)), r.Run(with(column, 0)))
	}
	whole := func(bits uint32) []float32 { return slices.Repeat([]float32{math.Float32frombits(bits)}, r.InRow) }
	for _, bits := range append(slices.Clone(oddValues), oddNaNs...) {
		compare(t, "a row of one odd value a second time", r.Run(whole(bits)), r.Run(whole(bits)))
	}
	compare(t, "a plain row after all that", r.Run(base), rowByRow(r, base))
}

func takesAnyOffset(t *testing.T, c Case) {
	r := NewRunner(t, Open(t, c.Backend, c.Dir))
	defer r.Close()
	rows := c.Input[:r.InRow]
	if r.batchable {
		rows = c.Input[:min(5*r.InRow, len(c.Input))]
	}
	want := r.call(rows, 0)
	for shift := 1; shift < 32; shift++ {
		compare(t, "at an odd address", r.call(rows, shift), want)
	}
}

func runsSideBySide(t *testing.T, c Case) {
	m := Open(t, c.Backend, c.Dir)
	reference := NewRunner(t, m)
	inRow, outRow := reference.InRow, reference.OutRow
	input := c.Input[:min(len(c.Input), 64*inRow)]
	want := reference.Run(input)
	reference.Close()

	instances := 4
	if most := m.Properties().MaxInstances; most > 0 {
		instances = min(instances, most)
	}
	results := make([][]float32, instances)
	var wg sync.WaitGroup
	for i := range instances {
		wg.Go(func() {
			// A failed check ends this goroutine alone; the missing result tells.
			defer func() {
				if results[i] == nil {
					t.Errorf("instance %d did not finish", i)
				}
			}()
			r := NewRunner(t, m)
			defer r.Close()
			var got []float32
			for range 20 {
				got = r.Run(input)
			}
			rows := rotate(input, i*inRow)
			turned := r.Run(rows)
			alike := func(a, b float32) bool { return near(a, b, c.BatchTolerance) }
			if !slices.EqualFunc(rotate(turned, len(turned)-i*outRow%len(turned)), want, alike) {
				t.Errorf("instance %d answers turned rows differently", i)
			}
			results[i] = got
		})
	}
	wg.Wait()
	for _, got := range results {
		if got != nil {
			compare(t, "an instance beside others", got, want)
		}
	}
}

// rotate is s with its first n elements moved to the end.
func rotate(s []float32, n int) []float32 {
	n %= len(s)
	return append(slices.Clone(s[n:]), s[:n]...)
}

func opensTwice(t *testing.T, c Case) {
	first, err := c.Backend.Open(t.Context(), Artifact(t, c.Dir), Options())
	if err != nil {
		t.Fatal(err)
	}
	second := Open(t, c.Backend, c.Dir)
	a, b := NewRunner(t, first), NewRunner(t, second)
	row := c.Input[:a.InRow]
	want := a.Run(row)
	compare(t, "the second model of an artifact", b.Run(row), want)
	// Instances before the model, and nothing of the other is touched.
	a.Close()
	if err := first.Close(); err != nil {
		t.Errorf("closing the first model: %v", err)
	}
	compare(t, "a model after another of the same artifact was closed", b.Run(row), want)
	b.Close()
}
