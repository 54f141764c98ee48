// Package lanewire is the bytes of the lane protocol, for the server and the Go
// client alike. docs/formats/lane.md is its specification.
//
// What comes from the other side is never trusted: every length is compared with
// what is there before it is used.
package lanewire
