#include "forest.h"

// AVX-512 with byte permutes (VBMI) and bit matrices (GFNI): Ice Lake, Zen 4 and later.

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,gfni,popcnt,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,gfni,popcnt,bmi2")
#endif
#include <immintrin.h>

#define W 64
typedef uint64_t V __attribute__((vector_size(64), may_alias));
#define ROW picket_row_vbmi
#define SLICE picket_slice_vbmi
#define SLICE_ORDER picket_order_vbmi

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

struct slots {
	__m512i r[4];
};

static inline struct slots slots_load(const uint8_t *rank, int registers) {
	struct slots s;
	for (int i = 0; i < registers; i++)
		s.r[i] = _mm512_load_si512(rank + 64 * i);
	return s;
}

// Pattern of 8 blocks, a byte each; patterns of 64.
typedef uint64_t P;
struct patterns {
	P of[8];
};

static inline __attribute__((always_inline)) P pattern(const struct slots *s, int registers, V slot, V rank) {
	__m512i at = (__m512i)slot, have;
	if (registers == 1)
		have = _mm512_permutexvar_epi8(at, s->r[0]);
	else
		have = _mm512_permutex2var_epi8(s->r[0], at, s->r[1]);
	if (registers == 4)
		have = _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), have, _mm512_permutex2var_epi8(s->r[2], at, s->r[3]));
	return _mm512_cmp_epu8_mask(have, (__m512i)rank, _MM_CMPINT_NLT);
}

// 16 bytes from each of four addresses, every other one.
static inline V lanes(const uint8_t *const *at) {
	__m256i a = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_load_si128((const __m128i *)at[0])), _mm_load_si128((const __m128i *)at[2]), 1);
	__m256i b = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_load_si128((const __m128i *)at[4])), _mm_load_si128((const __m128i *)at[6]), 1);
	return (V)_mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
}

static const uint8_t exit_of[128] __attribute__((aligned(64))) = {
#define E1(p) (4 * ((p) & 1) + 2 * ((p) >> (1 + ((p) & 1)) & 1) + ((p) >> (3 + 2 * ((p) & 1) + ((p) >> (1 + ((p) & 1)) & 1)) & 1))
#define E2(p) E1(p), E1(p + 1), E1(p + 2), E1(p + 3)
#define E3(p) E2(p), E2(p + 4), E2(p + 8), E2(p + 12)
	E3(0), E3(16), E3(32), E3(48), E3(64), E3(80), E3(96), E3(112),
};

// The exits of 64 blocks. The patterns go from register to register: stored one by one and loaded together, they would
// have to be in the cache first.
static inline void exits(uint8_t *to, struct patterns p) {
	__m512i a = _mm512_load_si512(exit_of), b = _mm512_load_si512(exit_of + 64);
	__m512i at = _mm512_set_epi64((long long)p.of[7], (long long)p.of[6], (long long)p.of[5], (long long)p.of[4], (long long)p.of[3],
		(long long)p.of[2], (long long)p.of[1], (long long)p.of[0]);
	_mm512_store_si512(to, _mm512_permutex2var_epi8(a, at, b));
}

#include "row.inc.h"

static inline V lookup(const uint8_t *table, V index) {
	return (V)_mm512_permutexvar_epi8((__m512i)index, _mm512_loadu_si512(table));
}
// As lookup for the bytes of which in is set, else what was.
static inline V lookup_in(V in, V was, const uint8_t *table, V index) {
	return (V)_mm512_mask_permutexvar_epi8((__m512i)was, _mm512_movepi8_mask((__m512i)in), (__m512i)index, _mm512_loadu_si512(table));
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

// From eight bytes of a 64-bit lane to the eight bytes that their bits make: byte 7 - i has bit i of all.
static inline V turn(V v) { return (V)_mm512_gf2p8affine_epi64_epi8(_mm512_set1_epi64((long long)0x8040201008040201), (__m512i)v, 0); }

static inline void transpose(const V *p, V *index) {
	V z = p[0] ^ p[0];
	V a[2] = {unpack8lo(p[5], p[4]), unpack8hi(p[5], p[4])}; // bytes 2 and 3 of a lane: bits 5 and 4
	V b[2] = {unpack8lo(p[3], p[2]), unpack8hi(p[3], p[2])};
	V c[2] = {unpack8lo(p[1], p[0]), unpack8hi(p[1], p[0])};
	for (int i = 0; i < 2; i++) {
		V a0 = unpack16lo(z, a[i]), a1 = unpack16hi(z, a[i]), b0 = unpack16lo(b[i], c[i]), b1 = unpack16hi(b[i], c[i]);
		index[4 * i + 0] = turn(unpack32lo(a0, b0));
		index[4 * i + 1] = turn(unpack32hi(a0, b0));
		index[4 * i + 2] = turn(unpack32lo(a1, b1));
		index[4 * i + 3] = turn(unpack32hi(a1, b1));
	}
}

// Bytes of all ones where the row of a byte of index[i] has its bit in line.
static inline V spread(const uint8_t *line, int i) {
	V l = load(line), z = l ^ l;
	V a = i & 4 ? unpack8hi(l, z) : unpack8lo(l, z);
	a = i & 2 ? unpack16hi(a, z) : unpack16lo(a, z);
	a = i & 1 ? unpack32hi(a, z) : unpack32lo(a, z);
	// The byte of a lane is bit 7 of all of its bytes after the turn.
	return turn(a);
}

#include "slice.inc.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
