//go:build !linux

package tensor

// preferLargePages does nothing: of the systems that this runs on, only Linux can be asked for such.
func preferLargePages([]byte) {}
