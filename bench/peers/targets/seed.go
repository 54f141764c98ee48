package targets

import "math/rand/v2"

// seeded chooses the rows of a first question.
func seeded() *rand.Rand { return rand.New(rand.NewPCG(1, 1)) }
