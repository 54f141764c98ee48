#include "forest.h"

// AVX-512 with byte permutes (VBMI) and bit matrices (GFNI): Ice Lake, Zen 4 and later.

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,gfni,popcnt,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,gfni,popcnt,bmi2")
#endif
#include <immintrin.h>

#define ROW picket_row_vbmi
#define SLICE picket_slice_vbmi
#define SLICE_ORDER picket_order_vbmi
#define FINISH picket_finish_vbmi
#include "avx512.inc.h"

struct slots {
	__m512i r[4];
};

static inline struct slots slots_load(const uint8_t *rank, int registers) {
	struct slots s;
	for (int i = 0; i < registers; i++)
		s.r[i] = _mm512_load_si512(rank + 64 * i);
	return s;
}

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

#include "exits.inc.h"

// The exits of 64 blocks. The patterns go from register to register: stored one by one and loaded together, they would
// have to be in the cache first.
static inline void exits(uint8_t *to, struct patterns p) {
	__m512i a = _mm512_load_si512(exit_of), b = _mm512_load_si512(exit_of + 64);
	__m512i at = joined(p);
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
