package ensemble

import (
	"fmt"
	"slices"
)

// source is a document that is read once, front to back, without building a tree of it: JSON and UBJSON give the same
// sequence of calls. Each method consumes exactly one value. Errors carry the position in bytes.
type source interface {
	// object calls field for every member; field consumes the member's value. The key is valid during the call.
	object(field func(key string) error) error
	// array calls element for every element; element consumes it.
	array(element func(i int) error) error
	// text consumes a string, or a number or boolean as its text.
	text() (string, error)
	// floats consumes an array of numbers, each rounded once to float32.
	floats() ([]float32, error)
	// ints consumes an array of integers or booleans. Values of 32 bits, signed or unsigned, keep their bits
	// (XGBoost marks with 1<<32 - 1 in JSON and -1 in UBJSON); others are refused.
	ints() ([]int32, error)
	// skip consumes any value.
	skip() error
	// end makes sure that nothing follows.
	end() error
	// size is the length of the document in bytes.
	size() int
}

// maxKeys is how many members of an object are told apart. XGBoost writes fewer than twenty.
const maxKeys = 64

// once is field for objects in which no member may come twice: which of the two counts would be a guess.
func once(field func(key string) error) func(key string) error {
	seen := make([]string, 0, 16)
	return func(key string) error {
		switch {
		case slices.Contains(seen, key):
			return fmt.Errorf("%s is there twice", quote(key))
		case len(seen) == maxKeys:
			return fmt.Errorf("an object has more than %d members", maxKeys)
		}
		seen = append(seen, key)
		return field(key)
	}
}
