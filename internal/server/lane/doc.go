// Package lane serves predictions over the lane, Picket's own binary protocol for
// processes on the same host; docs/formats/lane.md is its specification.
//
// A connection has one goroutine. It reads what there is, puts the requests for
// the same model together, runs models that are cheap itself, and answers all of
// them with one write. Requests for other models go through the engine's queue on
// goroutines of their own, and are answered as they are done.
//
// Nothing is allocated on the Go heap for a request once a connection has seen
// its like, and a connection that is silent holds no buffers.
//
// # Limits
//
// Bounded are the connections, the requests of a connection that are under way,
// the bytes of a frame, the bytes of all requests under way, what waits to be
// written to a client, and the time a client may take to greet, to send the rest
// of a frame and to read its answers.
package lane
