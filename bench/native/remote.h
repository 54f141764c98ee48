// A peer in a process of its own, asked by one other process: the least that it takes to have somebody else run a model. Both sides are C, know
// beforehand how large everything is, look at nothing but how much came, and sleep in the kernel while they wait, but for
// the next piece of a request, for which they look first.

#ifndef PICKET_BENCH_REMOTE_H
#define PICKET_BENCH_REMOTE_H

#include "peer.h"

typedef struct remote remote;

// One side, with a connected socket that keeps the boundaries of messages, which stays the caller's, and the file at path, which both have mapped:
// made if it is not there, and large enough for so many rows. NULL after an error, which errno tells.
remote *remote_open(int socket, const char *path, int64_t rows, int64_t features, int64_t outputs);
void remote_close(remote *);

// Answers on the socket until the other side closes it, which is 0; 1 after an error.
int remote_serve_socket(remote *, peer *);
// The same through the mapped memory, for ever; it returns after an error of the peer.
void remote_serve_memory(remote *, peer *);

// Ask for answers to so many rows and return how many nanoseconds that took, -1 after an error. The rows of a call through memory are copied into it,
// and the answers out of it. run 0 has the other side answer at once, with what lies there.
int64_t remote_ask_socket(remote *, const float *in, int64_t rows, int run, float *out);
int64_t remote_ask_memory(remote *, const float *in, int64_t rows, int run, float *out);

#endif
