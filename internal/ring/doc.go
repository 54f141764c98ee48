// Package ring is a pair of byte streams between two processes in shared memory,
// one each way: what a connection of the lane becomes when its client asks for it.
// docs/formats/lane.md has the layout.
//
// The daemon makes the memory, seals its size and hands it to the client; so it
// never maps what a stranger made. The client shares it from then on and may write
// to all of it at any time. Therefore nothing in it is believed: each side keeps
// its own positions to itself and only tells them, what the other tells is compared
// with what is possible, and bytes are copied out before they are looked at. The
// worst that a client can do is to spoil its own stream.
//
// A side that has nothing to do sleeps in the kernel (futex), after it has looked
// for a moment whether that is worth it: see Spins.
package ring
