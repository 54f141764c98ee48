// What a C program would do that calls a compiled tree model: the yardstick.

#ifndef PICKET_BENCH_LOOP_H
#define PICKET_BENCH_LOOP_H

#include <stdint.h>

// Calls float predict(entries, 0) on rows rows of features floats, times the
// whole loop, and writes one float a row to out. Returns nanoseconds.
int64_t bench_loop(void *predict, const float *in, int64_t rows, int64_t features, float *out);

#endif
