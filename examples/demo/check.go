package main

import (
	"fmt"
	"math"
)

// tolerance is how far a score may be from XGBoost's. The sum of the trees is the same to the bit; turning it into a
// probability takes the exponential function, which the C library of this host may round differently from the one that
// XGBoost was built with, by a unit in the last place.
const tolerance = 1.2e-7

// check compares every score with XGBoost's.
func check(list []transaction) (string, error) {
	same, worst := 0, 0.0
	for _, t := range list {
		if math.Float32bits(t.score) == math.Float32bits(t.expected) {
			same++
			continue
		}
		difference := math.Abs(float64(t.score) - float64(t.expected))
		if !(difference <= tolerance) { // so that NaN is caught
			return "", fmt.Errorf("checking the scores: transaction %d got %v, XGBoost says %v, and only %g apart is allowed", t.number, t.score, t.expected, tolerance)
		}
		worst = max(worst, difference)
	}
	if same == len(list) {
		return fmt.Sprintf("all %d scores are XGBoost's own, bit for bit", same), nil
	}
	return fmt.Sprintf("%d scores are XGBoost's own bit for bit, %d differ by %.1g at most (allowed: %g)", same, len(list)-same, worst, tolerance), nil
}
