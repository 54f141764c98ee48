// Package oip serves the Open Inference Protocol, over gRPC and over HTTP on the
// same socket, with the extensions of Triton that its clients call; what SageMaker
// asks of a container; and what a monitoring system asks of a server.
//
// The first bytes of a connection say whether it is HTTP/2, which goes to gRPC, or
// HTTP/1, which goes to net/http: neither stands in the way of the other.
//
// ModelInfer, the one call that matters for speed, is decoded and encoded by hand:
// its message stays in the buffer that it was received in, tensors are copied once
// into the request's own Buffers, and once out of them. Whether the hand-made
// decoder agrees with the generated one is what FuzzDecode asks.
//
// Memory that clients share is read and written through its file, never mapped, so
// that no client can pull it away from under the daemon.
package oip
