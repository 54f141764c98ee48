package ring

import "testing"

// waits is how often a receiver waits before its purse has enough.
func waits(p *purse) (n int) {
	for !p.affords() {
		n++
	}
	return n
}

// Looking begins when there is enough, goes on as long as it pays, and ceases when nothing is left; what was burned for nothing is
// never more than what was given.
func TestLookingIsPaidFor(t *testing.T) {
	var p purse
	given := (enough/perWait - 1) * perWait
	if n := waits(&p); n != given/perWait {
		t.Fatalf("looking began after %d waits", n)
	}
	for range 1000 {
		p.spent(sleepCost/2, true)
		if !p.affords() {
			t.Fatal("looks that pay are not afforded any more")
		}
	}
	burned := 0
	for p.affords() {
		p.spent(longestSpin, false)
		burned += longestSpin
	}
	if burned > enough+longestSpin+perWait {
		t.Errorf("looks for nothing took %d ns", burned)
	}
	if n := waits(&p); n < given/perWait-1 {
		t.Errorf("looking began again after %d waits", n)
	}
}

// A turn of the scheduler's that a yield has cost is owed.
func TestYieldingIsOwed(t *testing.T) {
	const turn = 3_000_000
	p := purse{credit: mostDebt}
	waits(&p)
	p.spent(turn, false)
	if n := waits(&p); n < turn/perWait-1 {
		t.Errorf("it was yielded again after %d waits", n)
	}
	p.spent(100*mostDebt, true)
	if n := waits(&p); n > (mostDebt+enough)/perWait {
		t.Errorf("after an endless yield it took %d waits", n)
	}
}
