//go:build !linux

package enginetest

// threadID is constant where there is no cheap way to ask: threads are not
// watched there.
func threadID() int { return 0 }
