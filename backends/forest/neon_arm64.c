#include "forest.h"

// NEON, which every 64-bit Arm processor has.

#include <arm_neon.h>

#define W 16
typedef uint64_t V __attribute__((vector_size(16), may_alias));
#define ROW picket_row_neon
#define SLICE picket_slice_neon
#define SLICE_ORDER picket_order_neon
#define FINISH picket_finish_neon

static inline V load(const void *p) { return (V)vld1q_u8(p); }
static inline void store(void *p, V v) { vst1q_u8(p, (uint8x16_t)v); }

// Bits of b where m is set, else of a.
static inline V sel(V m, V a, V b) { return (V)vbslq_u8((uint8x16_t)m, (uint8x16_t)b, (uint8x16_t)a); }
static inline V xor3(V a, V b, V c) { return a ^ b ^ c; }
static inline V low64(V a, V b) { return (V)vzip1q_u64((uint64x2_t)a, (uint64x2_t)b); }
static inline V high64(V a, V b) { return (V)vzip2q_u64((uint64x2_t)a, (uint64x2_t)b); }
static inline V unpack8lo(V a, V b) { return (V)vzip1q_u8((uint8x16_t)a, (uint8x16_t)b); }
static inline V unpack8hi(V a, V b) { return (V)vzip2q_u8((uint8x16_t)a, (uint8x16_t)b); }
static inline V unpack16lo(V a, V b) { return (V)vzip1q_u16((uint16x8_t)a, (uint16x8_t)b); }
static inline V unpack16hi(V a, V b) { return (V)vzip2q_u16((uint16x8_t)a, (uint16x8_t)b); }
static inline V unpack32lo(V a, V b) { return (V)vzip1q_u32((uint32x4_t)a, (uint32x4_t)b); }
static inline V unpack32hi(V a, V b) { return (V)vzip2q_u32((uint32x4_t)a, (uint32x4_t)b); }
static inline void add32(uint8_t *to, V v) { vst1q_f32((float *)to, vaddq_f32(vld1q_f32((float *)to), (float32x4_t)v)); }
static inline void add64(uint8_t *to, V v) { vst1q_f64((double *)to, vaddq_f64(vld1q_f64((double *)to), (float64x2_t)v)); }

static inline uint32_t not_above(float32x4_t v, const float *t) {
	uint32x4_t n = vdupq_n_u32(0);
	for (int i = 0; i < 4; i++)
		n = vsubq_u32(n, vcgeq_f32(v, vld1q_f32(t + 4 * i)));
	return vaddvq_u32(n);
}

// How many of a unit's thresholds are <= x.
static inline uint32_t rank_of(float x, const float *t) {
	float32x4_t v = vdupq_n_f32(x);
	uint32_t b = not_above(v, t);
	return 16 * b + not_above(v, t + 16 + 16 * b);
}

// Ranks of up to 64 values of unit u, which lie side by side, and which of them are missing: eight of them at rank + 8 *
// place[0] and missing + place[0], the next eight at place[8]. Gives whether any is missing.
static inline uint32_t ranks_of(const picket_forest *f, uint32_t u, const float *x, uint32_t n, uint8_t *rank, uint8_t *missing,
	const uint16_t *place) {
	const float *t = f->thresholds + (size_t)u * PICKET_UNIT;
	uint32_t any = 0, nan = 0;
	for (uint32_t r = 0; r < n; r++) {
		rank[8 * place[r] + r % 8] = (uint8_t)rank_of(x[r], t);
		nan = (r % 8 ? nan : 0) | (uint32_t)(x[r] != x[r]) << (r % 8);
		missing[place[r]] = (uint8_t)nan;
		any |= nan;
	}
	return any;
}

struct slots {
	uint8x16x4_t r[4];
};

static inline __attribute__((always_inline)) struct slots slots_load(const uint8_t *rank, int registers) {
	struct slots s;
	for (int i = 0; i < registers; i++)
		s.r[i] = vld1q_u8_x4(rank + 64 * i);
	return s;
}

// Pattern of 2 blocks, a byte each; patterns of 64. After the comparison this takes four instructions, an AND with the
// weights and three ADDP. With dot products it takes five: MOVI, SDOT, ADDP, UZP1, XTN, as SDOT adds four bytes only, to words
// that have to be zero before and made bytes of again.
typedef uint16_t P;
struct patterns {
	P of[32] __attribute__((aligned(16)));
};

static inline __attribute__((always_inline)) P pattern(const struct slots *s, int registers, V slot, V rank) {
	static const uint8_t weight[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
	uint8x16_t at = (uint8x16_t)slot, have = vqtbl4q_u8(s->r[0], at);
	for (int i = 1; i < registers; i++)
		have = vqtbx4q_u8(have, s->r[i], vsubq_u8(at, vdupq_n_u8((uint8_t)(64 * i))));
	uint8x16_t bit = vandq_u8(vcgeq_u8(have, (uint8x16_t)rank), vld1q_u8(weight));
	bit = vpaddq_u8(bit, bit);
	bit = vpaddq_u8(bit, bit);
	bit = vpaddq_u8(bit, bit);
	return vgetq_lane_u16(vreinterpretq_u16_u8(bit), 0);
}

// 16 bytes from an address, every other one.
static inline V lanes(const uint8_t *const *at) { return load(at[0]); }

#include "bytes.inc.h"

static inline void exits(uint8_t *to, struct patterns p) {
	for (int i = 0; i < 4; i++)
		*(bytes *)(to + 16 * i) = exits_of((bytes)load(p.of + 8 * i));
}

#include "row.inc.h"

static inline V lookup(const uint8_t *table, V index) { return (V)vqtbl4q_u8(vld1q_u8_x4(table), (uint8x16_t)index); }
// As lookup for the bytes of which in is set, else what was.
static inline V lookup_in(V in, V was, const uint8_t *table, V index) {
	return sel((V)vcltzq_s8((int8x16_t)in), was, lookup(table, index));
}

static inline V even(V a, V b) { return (V)vuzp1q_u8((uint8x16_t)a, (uint8x16_t)b); }
static inline V odd(V a, V b) { return (V)vuzp2q_u8((uint8x16_t)a, (uint8x16_t)b); }

// Bits of 128 bytes, the lowest first.
static inline void bits_of(const uint8_t *byte, V *bit) {
	V v[8], a[8], b[8];
	for (int g = 0; g < 8; g++)
		v[g] = turn(load(byte + 16 * g));
	// Bit b of eight rows is now byte b of 64 bits. Taking even and odd bytes apart three times brings those of all rows together.
	for (int i = 0; i < 4; i++) {
		a[i] = even(v[2 * i], v[2 * i + 1]);
		a[4 + i] = odd(v[2 * i], v[2 * i + 1]);
	}
	for (int h = 0; h < 8; h += 4)
		for (int i = 0; i < 2; i++) {
			b[h + i] = even(a[h + 2 * i], a[h + 2 * i + 1]);
			b[h + 2 + i] = odd(a[h + 2 * i], a[h + 2 * i + 1]);
		}
	for (int h = 0; h < 2; h++)
		for (int i = 0; i < 2; i++) {
			bit[h + 2 * i] = even(b[4 * h + 2 * i], b[4 * h + 2 * i + 1]);
			bit[h + 2 * i + 4] = odd(b[4 * h + 2 * i], b[4 * h + 2 * i + 1]);
		}
}

#include "turned.inc.h"

#include "slice.inc.h"
