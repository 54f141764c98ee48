#include "forest.h"

// AVX-512 without byte permutes: Skylake-SP, Cascade Lake, Cooper Lake. 16 bytes are permuted at a time instead of 64.

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,popcnt,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,popcnt,bmi2")
#endif
#include <immintrin.h>

#define ROW picket_row_bw
#define SLICE picket_slice_bw
#define SLICE_ORDER picket_order_bw
#define FINISH picket_finish_bw
#include "avx512.inc.h"

// The ranks, 16 bytes at a time, each in all four lanes.
struct slots {
	__m512i r[16];
};

static inline __attribute__((always_inline)) struct slots slots_load(const uint8_t *rank, int registers) {
	struct slots s;
	for (int i = 0; i < 4 * registers; i++)
		s.r[i] = _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)(rank + 16 * i)));
	return s;
}

static inline __attribute__((always_inline)) P pattern(const struct slots *s, int registers, V slot, V rank) {
	__m512i have = _mm512_setzero_si512();
	for (int i = 0; i < 4 * registers; i++) {
		// Slots outside these 16 get their highest bit set, for which the shuffle gives 0.
		__m512i at = _mm512_adds_epu8(_mm512_xor_si512((__m512i)slot, _mm512_set1_epi8((char)(16 * i))), _mm512_set1_epi8(0x70));
		have = _mm512_or_si512(have, _mm512_shuffle_epi8(s->r[i], at));
	}
	return _mm512_cmp_epu8_mask(have, (__m512i)rank, _MM_CMPINT_NLT);
}

#include "bytes.inc.h"

static inline void exits(uint8_t *to, struct patterns p) {
	__m512i at = joined(p);
	*(bytes *)to = exits_of((bytes)at);
}

#include "row.inc.h"

static inline V lookup(const uint8_t *table, V index) {
	__m512i i = (__m512i)index, t[4];
	for (int j = 0; j < 4; j++)
		t[j] = _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)(table + 16 * j)));
	__mmask64 bit4 = _mm512_test_epi8_mask(i, _mm512_set1_epi8(16)), bit5 = _mm512_test_epi8_mask(i, _mm512_set1_epi8(32));
	__m512i low = _mm512_mask_shuffle_epi8(_mm512_shuffle_epi8(t[0], i), bit4, t[1], i);
	__m512i high = _mm512_mask_shuffle_epi8(_mm512_shuffle_epi8(t[2], i), bit4, t[3], i);
	return (V)_mm512_mask_blend_epi8(bit5, low, high);
}
// As lookup for the bytes of which in is set, else what was.
static inline V lookup_in(V in, V was, const uint8_t *table, V index) {
	return (V)_mm512_mask_blend_epi8(_mm512_movepi8_mask((__m512i)in), (__m512i)was, (__m512i)lookup(table, index));
}

// Bits of 512 bytes, the lowest first.
static inline void bits_of(const uint8_t *byte, V *bit) {
	uint64_t lines[8][8] __attribute__((aligned(64)));
	for (int g = 0; g < 8; g++) {
		__m512i v = _mm512_load_si512(byte + 64 * g);
		for (int b = 0; b < 8; b++)
			lines[b][g] = _mm512_test_epi8_mask(v, _mm512_set1_epi8((char)(1 << b)));
	}
	for (int b = 0; b < 8; b++)
		bit[b] = load(lines[b]);
}

// The mask registers turn 64 bits into 64 bytes.
static inline void transpose(const V *p, V *index) {
	uint64_t lines[6][8] __attribute__((aligned(64)));
	for (int b = 0; b < 6; b++)
		store(lines[b], p[b]);
	for (int g = 0; g < 8; g++) {
		__m512i v = _mm512_maskz_set1_epi8(lines[0][g], 1);
		for (int b = 1; b < 6; b++)
			v = _mm512_mask_add_epi8(v, lines[b][g], v, _mm512_set1_epi8((char)(1 << b)));
		index[g] = (V)v;
	}
}

static inline V spread(const uint8_t *line, int i) { return (V)_mm512_movm_epi8(((const uint64_t *)line)[i]); }

#include "slice.inc.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
