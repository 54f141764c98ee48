#include "forest.h"

// AVX2: Haswell, Zen and later.

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,popcnt,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx2,popcnt,bmi2")
#endif
#include <immintrin.h>

#define W 32
typedef uint64_t V __attribute__((vector_size(32), may_alias));
#define ROW picket_row_avx2
#define SLICE picket_slice_avx2
#define SLICE_ORDER picket_order_avx2
#define FINISH picket_finish_avx2

static inline V load(const void *p) { return (V)_mm256_load_si256(p); }
static inline void store(void *p, V v) { _mm256_store_si256(p, (__m256i)v); }

// Bits of b where m is set, else of a.
static inline V sel(V m, V a, V b) { return a ^ ((a ^ b) & m); }
static inline V xor3(V a, V b, V c) { return a ^ b ^ c; }
static inline V low64(V a, V b) { return (V)_mm256_unpacklo_epi64((__m256i)a, (__m256i)b); }
static inline V high64(V a, V b) { return (V)_mm256_unpackhi_epi64((__m256i)a, (__m256i)b); }
static inline V unpack8lo(V a, V b) { return (V)_mm256_unpacklo_epi8((__m256i)a, (__m256i)b); }
static inline V unpack8hi(V a, V b) { return (V)_mm256_unpackhi_epi8((__m256i)a, (__m256i)b); }
static inline V unpack16lo(V a, V b) { return (V)_mm256_unpacklo_epi16((__m256i)a, (__m256i)b); }
static inline V unpack16hi(V a, V b) { return (V)_mm256_unpackhi_epi16((__m256i)a, (__m256i)b); }
static inline V unpack32lo(V a, V b) { return (V)_mm256_unpacklo_epi32((__m256i)a, (__m256i)b); }
static inline V unpack32hi(V a, V b) { return (V)_mm256_unpackhi_epi32((__m256i)a, (__m256i)b); }
static inline void add32(uint8_t *to, V v) { _mm256_store_ps((float *)to, _mm256_add_ps(_mm256_load_ps((float *)to), (__m256)v)); }
static inline void add64(uint8_t *to, V v) { _mm256_store_pd((double *)to, _mm256_add_pd(_mm256_load_pd((double *)to), (__m256d)v)); }

static inline uint32_t not_above(__m256 v, const float *t) {
	uint32_t a = (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_load_ps(t), _CMP_GE_OQ));
	uint32_t b = (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_load_ps(t + 8), _CMP_GE_OQ));
	return (uint32_t)__builtin_popcount(a | b << 8);
}

// How many of a unit's thresholds are <= x.
static inline uint32_t rank_of(float x, const float *t) {
	__m256 v = _mm256_set1_ps(x);
	uint32_t b = not_above(v, t);
	return 16 * b + not_above(v, t + 16 + 16 * b);
}

// Ranks of up to 64 values of unit u, which lie side by side, and which of them are missing: eight of them at rank + 8 *
// place[0] and missing + place[0], the next eight at place[8]. Gives whether any is missing.
// Eight go down the heap of thresholds together: from the fourth level on, a level is one or more registers, which are
// permuted, and then the bits of the place in the heap choose among them.
INLINE uint32_t ranks_down(const float *heap, int levels, const float *x, uint32_t n, uint8_t *rank, uint8_t *missing,
	const uint16_t *place) {
	uint32_t any = 0;
	for (uint32_t r = 0; r < n; r += 8) {
		// Beyond the last one lie other values, in the column's room for 64.
		__m256 v = _mm256_load_ps(x + r);
		__m256i at = _mm256_set1_epi32(1);
#pragma GCC unroll 8
		for (int l = 0; l < levels; l++) {
			int count = l < 4 ? 1 : 1 << (l - 3);
			__m256 t[16];
#pragma GCC unroll 16
			for (int i = 0; i < count; i++)
				t[i] = _mm256_permutevar8x32_ps(_mm256_load_ps(heap + (l < 4 ? 8 * (l / 3) : 8 * (count + i))), at);
#pragma GCC unroll 4
			for (int b = 3; count > 1; b++) {
				__m256 bit = _mm256_castsi256_ps(_mm256_slli_epi32(at, 31 - b));
				count /= 2;
#pragma GCC unroll 8
				for (int i = 0; i < count; i++)
					t[i] = _mm256_blendv_ps(t[2 * i], t[2 * i + 1], bit);
			}
			at = _mm256_sub_epi32(_mm256_add_epi32(at, at), _mm256_castps_si256(_mm256_cmp_ps(v, t[0], _CMP_GE_OQ)));
		}
		at = _mm256_sub_epi32(at, _mm256_set1_epi32(1 << levels));
		__m128i ranks = _mm_packus_epi32(_mm256_castsi256_si128(at), _mm256_extracti128_si256(at, 1));
		_mm_storel_epi64((__m128i *)(rank + 8 * place[r]), _mm_packus_epi16(ranks, ranks));
		uint32_t nan = (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
		if (n - r < 8)
			nan &= (1u << (n - r)) - 1;
		missing[place[r]] = (uint8_t)nan;
		any |= nan;
	}
	return any;
}

#include "levels.inc.h"

// The ranks, 16 bytes at a time, each in both lanes.
struct slots {
	__m256i r[16];
};

static inline __attribute__((always_inline)) struct slots slots_load(const uint8_t *rank, int registers) {
	struct slots s;
	for (int i = 0; i < 4 * registers; i++)
		s.r[i] = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(rank + 16 * i)));
	return s;
}

// Pattern of 4 blocks, a byte each; patterns of 64.
typedef uint32_t P;
struct patterns {
	P of[16];
};

static inline __attribute__((always_inline)) P pattern(const struct slots *s, int registers, V slot, V rank) {
	__m256i have = _mm256_setzero_si256();
	for (int i = 0; i < 4 * registers; i++) {
		// Slots outside these 16 get their highest bit set, for which the shuffle gives 0.
		__m256i at = _mm256_adds_epu8(_mm256_xor_si256((__m256i)slot, _mm256_set1_epi8((char)(16 * i))), _mm256_set1_epi8(0x70));
		have = _mm256_or_si256(have, _mm256_shuffle_epi8(s->r[i], at));
	}
	return (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(have, (__m256i)rank), have));
}

// 16 bytes from each of two addresses, every other one.
static inline V lanes(const uint8_t *const *at) {
	return (V)_mm256_inserti128_si256(_mm256_castsi128_si256(_mm_load_si128((const __m128i *)at[0])), _mm_load_si128((const __m128i *)at[2]), 1);
}

#include "bytes.inc.h"

static inline void exits(uint8_t *to, struct patterns p) {
	for (int i = 0; i < 2; i++) {
		const P *q = p.of + 8 * i;
		__m256i at = _mm256_set_epi32((int)q[7], (int)q[6], (int)q[5], (int)q[4], (int)q[3], (int)q[2], (int)q[1], (int)q[0]);
		*(bytes *)(to + 32 * i) = exits_of((bytes)at);
	}
}

#include "row.inc.h"

static inline V lookup(const uint8_t *table, V index) {
	__m256i i = (__m256i)index, r[4], bit4 = _mm256_slli_epi16(i, 3), bit5 = _mm256_slli_epi16(i, 2);
	for (int j = 0; j < 4; j++)
		r[j] = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(table + 16 * j))), i);
	return (V)_mm256_blendv_epi8(_mm256_blendv_epi8(r[0], r[1], bit4), _mm256_blendv_epi8(r[2], r[3], bit4), bit5);
}
// As lookup for the bytes of which in is set, else what was.
static inline V lookup_in(V in, V was, const uint8_t *table, V index) {
	return (V)_mm256_blendv_epi8((__m256i)was, (__m256i)lookup(table, index), (__m256i)in);
}

// Bits of 256 bytes, the lowest first.
static inline void bits_of(const uint8_t *byte, V *bit) {
	uint32_t lines[8][8] __attribute__((aligned(32)));
	for (int g = 0; g < 8; g++) {
		__m256i v = _mm256_load_si256((const __m256i *)(byte + 32 * g));
		for (int b = 7; b >= 0; b--) {
			lines[b][g] = (uint32_t)_mm256_movemask_epi8(v);
			v = _mm256_add_epi8(v, v);
		}
	}
	for (int b = 0; b < 8; b++)
		bit[b] = load(lines[b]);
}

#include "turned.inc.h"

#include "slice.inc.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
