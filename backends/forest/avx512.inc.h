// What the kernels for AVX-512 have in common; included inside the target that its includer names.

#define W 64
typedef uint64_t V __attribute__((vector_size(64), may_alias));

static inline V load(const void *p) { return (V)_mm512_load_si512(p); }
static inline void store(void *p, V v) { _mm512_store_si512(p, (__m512i)v); }

// Bits of b where m is set, else of a. The result overwrites the first operand, which is not to be m: that is needed again.
static inline V sel(V m, V a, V b) { return (V)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)m, (__m512i)b, 0xb8); }
static inline V xor3(V a, V b, V c) { return (V)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, (__m512i)c, 0x96); }
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

// Pattern of 8 blocks, a byte each; patterns of 64.
typedef uint64_t P;
struct patterns {
	P of[8];
};

// All patterns in a register.
static inline __m512i joined(struct patterns p) {
	return _mm512_set_epi64((long long)p.of[7], (long long)p.of[6], (long long)p.of[5], (long long)p.of[4], (long long)p.of[3],
		(long long)p.of[2], (long long)p.of[1], (long long)p.of[0]);
}

// 16 bytes from each of four addresses, every other one.
static inline V lanes(const uint8_t *const *at) {
	__m256i a = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_load_si128((const __m128i *)at[0])), _mm_load_si128((const __m128i *)at[2]), 1);
	__m256i b = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_load_si128((const __m128i *)at[4])), _mm_load_si128((const __m128i *)at[6]), 1);
	return (V)_mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
}

// How many of a unit's thresholds are <= x.
static inline uint32_t rank_of(float x, const float *t) {
	__m512 v = _mm512_set1_ps(x);
	uint32_t b = (uint32_t)__builtin_popcount(_mm512_cmp_ps_mask(v, _mm512_load_ps(t), _CMP_GE_OQ));
	return 16 * b + (uint32_t)__builtin_popcount(_mm512_cmp_ps_mask(v, _mm512_load_ps(t + 16 + 16 * b), _CMP_GE_OQ));
}

// Ranks of up to 64 values of unit u, which lie side by side, and which of them are missing: eight of them at rank + 8 *
// place[0] and missing + place[0], the next eight at place[8]. Gives whether any is missing.
// Sixteen go down the heap of thresholds together: a level is at most eight registers, and a permute looks values up in two.
INLINE uint32_t ranks_down(const float *heap, int levels, const float *x, uint32_t n, uint8_t *rank, uint8_t *missing,
	const uint16_t *place) {
	const __m512i one = _mm512_set1_epi32(1);
	__m512 t[16];
	for (int i = 0; i < 1 << (levels - 4); i++)
		t[i] = _mm512_load_ps(heap + 16 * i);
	uint32_t any = 0;
	for (uint32_t r = 0; r < n; r += 16) {
		__mmask16 have = n - r < 16 ? (__mmask16)((1u << (n - r)) - 1) : (__mmask16)0xffff;
		__m512 v = _mm512_maskz_loadu_ps(have, x + r);
		__m512i at = one;
#define DOWN(threshold) at = _mm512_mask_add_epi32(_mm512_add_epi32(at, at), _mm512_cmp_ps_mask(v, threshold, _CMP_GE_OQ), _mm512_add_epi32(at, at), one)
		for (int l = 0; l < 4; l++)
			DOWN(_mm512_permutexvar_ps(at, t[0]));
		if (levels > 4)
			DOWN(_mm512_permutexvar_ps(at, t[1]));
		if (levels > 5)
			DOWN(_mm512_permutex2var_ps(t[2], at, t[3]));
		if (levels > 6) {
			__mmask16 bit5 = _mm512_test_epi32_mask(at, _mm512_set1_epi32(32));
			DOWN(_mm512_mask_blend_ps(bit5, _mm512_permutex2var_ps(t[4], at, t[5]), _mm512_permutex2var_ps(t[6], at, t[7])));
		}
		if (levels > 7) {
			__mmask16 bit5 = _mm512_test_epi32_mask(at, _mm512_set1_epi32(32)), bit6 = _mm512_test_epi32_mask(at, _mm512_set1_epi32(64));
			__m512 low = _mm512_mask_blend_ps(bit5, _mm512_permutex2var_ps(t[8], at, t[9]), _mm512_permutex2var_ps(t[10], at, t[11]));
			__m512 high = _mm512_mask_blend_ps(bit5, _mm512_permutex2var_ps(t[12], at, t[13]), _mm512_permutex2var_ps(t[14], at, t[15]));
			DOWN(_mm512_mask_blend_ps(bit6, low, high));
		}
#undef DOWN
		// 2^levels + rank
		__m128i ranks = _mm512_cvtepi32_epi8(_mm512_sub_epi32(at, _mm512_set1_epi32(1 << levels)));
		uint32_t nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
		any |= nan;
		_mm_storel_epi64((__m128i *)(rank + 8 * place[r]), ranks);
		missing[place[r]] = (uint8_t)nan;
		if (n - r > 8) {
			_mm_storel_epi64((__m128i *)(rank + 8 * place[r + 8]), _mm_unpackhi_epi64(ranks, ranks));
			missing[place[r + 8]] = (uint8_t)(nan >> 8);
		}
	}
	return any;
}

#include "levels.inc.h"
