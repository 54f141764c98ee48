package ensemble

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestExp holds Exp against math.Exp, which is itself one unit off at most, and at the ends of its range.
func TestExp(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	try := func(x float64) {
		got, want := Exp(x), math.Exp(x)
		if d := math.Abs(got - want); d > 2*(math.Nextafter(want, math.Inf(1))-want) {
			t.Errorf("Exp(%v) is %v, want %v", x, got, want)
		}
	}
	for range 1_000_000 {
		try(r.NormFloat64() * 10)
		try(r.Float64()*1416 - 708)
	}
	for x := -745.0; x < -708; x += 0.01 { // denormal
		try(x)
	}
	for x, want := range map[float64]float64{
		0: 1, math.Copysign(0, -1): 1, math.Inf(1): math.Inf(1), math.Inf(-1): 0, 710: math.Inf(1), -746: 0, 1e300: math.Inf(1), 5e-324: 1,
	} {
		if got := Exp(x); got != want {
			t.Errorf("Exp(%v) is %v, want %v", x, got, want)
		}
	}
	if got := Exp(math.NaN()); got == got {
		t.Errorf("Exp(NaN) is %v", got)
	}
}

func BenchmarkExp(b *testing.B) {
	x := 0.3
	for range b.N {
		x = Exp(-x)
	}
	sink = x
}

func BenchmarkMathExp(b *testing.B) {
	x := 0.3
	for range b.N {
		x = math.Exp(-x)
	}
	sink = x
}

var sink float64
