//go:build race

package store

// step thins out what is tried ten thousand times: the race detector sees the same in each.
const step = 20
