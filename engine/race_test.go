//go:build race

package engine_test

// raceEnabled is true when the race detector is on: sync.Pool then drops items
// at random, so counting allocations means nothing.
const raceEnabled = true
