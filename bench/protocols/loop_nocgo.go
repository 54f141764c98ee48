//go:build !(cgo && linux)

package protocols

// InC says that clients of the lane are Loopers, which takes cgo.
const InC = false

type looped struct{}
