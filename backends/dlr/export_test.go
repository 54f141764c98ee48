//go:build cgo && linux

package dlr

// ArenaUsed is arenaUsed for tests.
var ArenaUsed = arenaUsed
