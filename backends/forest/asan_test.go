//go:build asan

package forest

// sanitized is true when the address sanitizer is on: the compiler then puts on the heap what it keeps on the stack
// otherwise.
const sanitized = true
