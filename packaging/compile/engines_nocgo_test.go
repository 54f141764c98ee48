//go:build !cgo || !linux

package compile

// engines are all that work in a program without cgo.
func engines() []Engine { return []Engine{Branches()} }
