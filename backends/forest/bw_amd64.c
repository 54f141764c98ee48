#include "forest.h"
void picket_row_bw(const picket_forest *f, const float *in, size_t rows, void *out, uint8_t *scratch) { picket_walk(f,in,rows,out,scratch); }
void picket_slice_bw(const picket_forest *f, const float *in, size_t rows, void *out, uint8_t *scratch) { picket_walk(f,in,rows,out,scratch); }
void picket_order_bw(uint16_t *order) {(void)order;}
void picket_row_avx2(const picket_forest *f, const float *in, size_t rows, void *out, uint8_t *scratch) { picket_walk(f,in,rows,out,scratch); }
void picket_slice_avx2(const picket_forest *f, const float *in, size_t rows, void *out, uint8_t *scratch) { picket_walk(f,in,rows,out,scratch); }
void picket_order_avx2(uint16_t *order) {(void)order;}
