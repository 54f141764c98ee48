// What one core can do at the most: the roofs of a roofline.

#ifndef PICKET_BENCH_PEAKS_H
#define PICKET_BENCH_PEAKS_H

#include <stdint.h>

// Width of the widest registers that peaks_read and peaks_compare use here, in bytes: 16, 32 or 64, at most most.
int peaks_width(int most);

// Reads bytes bytes at data, a multiple of 1024 and aligned to 64, times times, with registers of that width, and gives the
// nanoseconds that took.
int64_t peaks_read(const void *data, int64_t bytes, int64_t times, int width);

// Compares the bytes of two registers of that width, 16 * times times, none waiting for another for longer than it must, and gives
// the nanoseconds that took.
int64_t peaks_compare(int64_t times, int width);

#endif
