//go:build !race

package lanewire

func beforeWrite() {}

func afterRead() {}
