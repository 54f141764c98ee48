// Two processes that wake each other through a word in shared memory, with nothing to say and without looking before they
// sleep: the least that a call through shared memory takes whose sides sleep.

#ifndef PICKET_BENCH_PINGPONG_H
#define PICKET_BENCH_PINGPONG_H

#include <stddef.h>
#include <stdint.h>

typedef struct pingpong pingpong;

// Maps the file at path, made if it is not there. NULL after an error, which errno tells. It is never unmapped.
pingpong *pingpong_open(const char *path);

// Answers calls for ever.
void pingpong_serve(pingpong *);

// Makes the other side answer, and returns how many nanoseconds that took. One call at a time, in one process.
int64_t pingpong_call(pingpong *);

#endif
