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
	for name, terms := range map[string]*Terms{"in a ring": &InRing, "on a socket": &OnSocket} {
		t.Run(name, func(t *testing.T) { lookingIsPaidFor(t, terms) })
	}
}

func lookingIsPaidFor(t *testing.T, terms *Terms) {
	p := NewPurses(terms).looking
	first := int(terms.enough()/terms.gift) - 1
	if n := waits(&p); n != first {
		t.Fatalf("looking began after %d waits", n)
	}
	for range 1000 {
		p.spent(sleepCost/2, true)
		if !p.affords() {
			t.Fatal("looks that pay are not afforded any more")
		}
	}
	vain := 0
	for p.affords() {
		p.spent(terms.longest, false)
		vain++
	}
	if burned := int64(vain) * terms.longest; burned > terms.enough()+terms.longest+terms.gift {
		t.Errorf("looks for nothing took %d ns", burned)
	}
	n := waits(&p)
	if n < first-1 {
		t.Errorf("looking began again after %d waits", n)
	}
	if terms == &OnSocket && 100*vain >= n {
		t.Errorf("%d of %d waits are looks in vain: one in a hundred answers is late", vain, n)
	}
}

// A turn of the scheduler's that a yield has cost is owed.
func TestYieldingIsOwed(t *testing.T) {
	const turn = 3_000_000
	p := NewPurses(&InRing).yielding
	waits(&p)
	p.spent(turn, false)
	if n := waits(&p); n < turn/int(InRing.gift)-1 {
		t.Errorf("it was yielded again after %d waits", n)
	}
	p.spent(100*mostDebt, true)
	if n := waits(&p); n > int((mostDebt+InRing.enough())/InRing.gift) {
		t.Errorf("after an endless yield it took %d waits", n)
	}
}
