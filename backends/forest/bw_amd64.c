#include "forest.h"

// AVX-512 without byte permutes: Skylake-SP, Cascade Lake, Cooper Lake. 16 bytes are permuted at a time instead of 64.

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,popcnt,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,popcnt,bmi2")
#endif
#include <immintrin.h>

#define W 64
typedef uint64_t V __attribute__((vector_size(64), may_alias));
#define ROW picket_row_bw
#define SLICE picket_slice_bw
#define SLICE_ORDER picket_order_bw

static inline V load(const void *p) { return (V)_mm512_load_si512(p); }
static inline void store(void *p, V v) { _mm512_store_si512(p, (__m512i)v); }

// Bits of b where m is set, else of a.
static inline V sel(V m, V a, V b) { return (V)_mm512_ternarylogic_epi64((__m512i)m, (__m512i)b, (__m512i)a, 0xca); }
static inline V low64(V a, V b) { return (V)_mm512_unpacklo_epi64((__m512i)a, (__m512i)b); }
static inline V high64(V a, V b) { return (V)_mm512_unpackhi_epi64((__m512i)a, (__m512i)b); }
static inline V unpack8lo(V a, V b) { return (V)_mm512_unpacklo_epi8((__m512i)a, (__m512i)b); }
static inline V unpack8hi(V a, V b) { return (V)_mm512_unpackhi_epi8((__m512i)a, (__m512i)b); }
static inline V unpack16lo(V a, V b) { return (V)_mm512_unpacklo_epi16((__m512i)a, (__m512i)b); }
static inline V unpack16hi(V a, V b) { return (V)_mm512_unpackhi_epi16((__m512i)a, (__m512i)b); }
static inline V unpack32lo(V a, V b) { return (V)_mm512_unpacklo_epi32((__m512i)a, (__m512i)b); }
static inline V unpack32hi(V a, V b) { return (V)_mm512_unpackhi_epi32((__m512i)a, (__m512i)b); }
static inline void add32(uint8_t *to, V v) { _mm512_store_ps(to, _mm512_add_ps(_mm512_load_ps(to), (__m512)v)); }
static inline void add64(uint8_t *to, V v) { _mm512_store_pd(to, _mm512_add_pd(_mm512_load_pd(to), (__m512d)v)); }

// How many of a unit's thresholds are <= x.
static inline uint32_t rank_of(float x, const float *t) {
	__m512 v = _mm512_set1_ps(x);
	uint32_t b = (uint32_t)__builtin_popcount(_mm512_cmp_ps_mask(v, _mm512_load_ps(t), _CMP_GE_OQ));
	return 16 * b + (uint32_t)__builtin_popcount(_mm512_cmp_ps_mask(v, _mm512_load_ps(t + 16 + 16 * b), _CMP_GE_OQ));
}

#include "columns.inc.h"

// Ranks of up to 64 values of unit u, which lie side by side, eight of them from rank + 8 * place[0] on, the next eight from rank + 8 * place[8] on.
// Sixteen go down the heap of thresholds together: a level is at most eight registers, and a permute looks values up in two.
static inline void ranks_of(const picket_forest *f, uint32_t u, const float *x, uint32_t n, uint8_t *rank, const uint16_t *place) {
	const float *heap = f->search + (size_t)u * 256;
	const __m512i one = _mm512_set1_epi32(1);
	__m512 t[16];
	for (int i = 0; i < 16; i++)
		t[i] = _mm512_load_ps(heap + 16 * i);
	for (uint32_t r = 0; r < n; r += 16) {
		__mmask16 have = n - r < 16 ? (__mmask16)((1u << (n - r)) - 1) : (__mmask16)0xffff;
		__m512 v = _mm512_maskz_loadu_ps(have, x + r);
		__m512i at = one;
#define DOWN(threshold) at = _mm512_mask_add_epi32(_mm512_add_epi32(at, at), _mm512_cmp_ps_mask(v, threshold, _CMP_GE_OQ), _mm512_add_epi32(at, at), one)
		DOWN(_mm512_permutexvar_ps(at, t[0]));
		DOWN(_mm512_permutexvar_ps(at, t[0]));
		DOWN(_mm512_permutexvar_ps(at, t[0]));
		DOWN(_mm512_permutexvar_ps(at, t[0]));
		DOWN(_mm512_permutexvar_ps(at, t[1]));
		DOWN(_mm512_permutex2var_ps(t[2], at, t[3]));
		__mmask16 bit5 = _mm512_test_epi32_mask(at, _mm512_set1_epi32(32));
		DOWN(_mm512_mask_blend_ps(bit5, _mm512_permutex2var_ps(t[4], at, t[5]), _mm512_permutex2var_ps(t[6], at, t[7])));
		bit5 = _mm512_test_epi32_mask(at, _mm512_set1_epi32(32));
		__mmask16 bit6 = _mm512_test_epi32_mask(at, _mm512_set1_epi32(64));
		__m512 low = _mm512_mask_blend_ps(bit5, _mm512_permutex2var_ps(t[8], at, t[9]), _mm512_permutex2var_ps(t[10], at, t[11]));
		__m512 high = _mm512_mask_blend_ps(bit5, _mm512_permutex2var_ps(t[12], at, t[13]), _mm512_permutex2var_ps(t[14], at, t[15]));
		DOWN(_mm512_mask_blend_ps(bit6, low, high));
#undef DOWN
		__m128i ranks = _mm512_cvtepi32_epi8(at); // 256 + rank
		_mm_storel_epi64((__m128i *)(rank + 8 * place[r]), ranks);
		if (n - r > 8)
			_mm_storel_epi64((__m128i *)(rank + 8 * place[r + 8]), _mm_unpackhi_epi64(ranks, ranks));
	}
}

// Bits of the first 16 of n floats that are NaN.
static inline uint32_t missing_bits(const float *x, uint32_t n) {
	__m512 v = _mm512_maskz_loadu_ps(n < 16 ? (__mmask16)((1u << n) - 1) : (__mmask16)0xffff, x);
	return _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
}

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

// Pattern of 8 blocks, a byte each; patterns of 64.
typedef uint64_t P;
struct patterns {
	P of[8];
};

static inline __attribute__((always_inline)) P pattern(const struct slots *s, int registers, V slot, V rank) {
	__m512i have = _mm512_setzero_si512();
	for (int i = 0; i < 4 * registers; i++) {
		// Slots outside these 16 get their highest bit set, for which the shuffle gives 0.
		__m512i at = _mm512_adds_epu8(_mm512_xor_si512((__m512i)slot, _mm512_set1_epi8((char)(16 * i))), _mm512_set1_epi8(0x70));
		have = _mm512_or_si512(have, _mm512_shuffle_epi8(s->r[i], at));
	}
	return _mm512_cmp_epu8_mask(have, (__m512i)rank, _MM_CMPINT_NLT);
}

// 16 bytes from each of four addresses, every other one.
static inline V lanes(const uint8_t *const *at) {
	__m256i a = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_load_si128((const __m128i *)at[0])), _mm_load_si128((const __m128i *)at[2]), 1);
	__m256i b = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_load_si128((const __m128i *)at[4])), _mm_load_si128((const __m128i *)at[6]), 1);
	return (V)_mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
}

#include "bytes.inc.h"

static inline void exits(uint8_t *to, struct patterns p) {
	__m512i at = _mm512_set_epi64((long long)p.of[7], (long long)p.of[6], (long long)p.of[5], (long long)p.of[4], (long long)p.of[3],
		(long long)p.of[2], (long long)p.of[1], (long long)p.of[0]);
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
