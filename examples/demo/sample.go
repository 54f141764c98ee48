package main

import (
	"cmp"
	"fmt"
	"slices"
)

// sample picks transactions worth looking at, highest score first: the most and the least certain of the denied, those
// that need a second factor, and of the approved the most doubtful and an everyday one.
func sample(list []transaction) []transaction {
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b transaction) int { return cmp.Compare(b.score, a.score) })
	groups := map[decision][]transaction{}
	for _, t := range sorted {
		groups[t.decision()] = append(groups[t.decision()], t)
	}
	var picked []transaction
	for _, g := range []struct {
		decision    decision
		first, last int
	}{{deny, 4, 1}, {ask, 3, 1}, {approve, 3, 0}} {
		of := groups[g.decision]
		if len(of) <= g.first+g.last {
			picked = append(picked, of...)
			continue
		}
		picked = append(append(picked, of[:g.first]...), of[len(of)-g.last:]...)
	}
	if of := groups[approve]; len(of) > 6 {
		picked = append(picked, of[len(of)/2]) // the everyday one
	}
	return picked
}

// summary counts the decisions.
func summary(list []transaction) string {
	var count [3]int
	for _, t := range list {
		count[t.decision()]++
	}
	return fmt.Sprintf("%d approve, %d ask for a 2nd factor (from %.2f), %d deny (from %.2f)", count[approve], count[ask], askFrom, count[deny], denyFrom)
}
