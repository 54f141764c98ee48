#define _GNU_SOURCE
#include "forest.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "sums.inc.h"

// The kernel that takes every model and runs on every processor. A block of three levels is one cache line, and all that
// one level takes is to load a split, compare, and add. Some trees go down a block each, then those that have not ended go
// down another.

enum {
	TREES = 128,  // in one list
	TOGETHER = 8, // in step
};

const float *picket_views(const picket_forest *f, const float *in, size_t rows, float *to) {
	if (f->plain)
		return in;
	float *at = to;
	for (size_t r = 0; r < rows; r++, in += f->features) {
		for (uint32_t v = 0; v < f->views; v++) {
			float x = in[f->view_column[v]];
			switch (f->view_rule[v]) {
			case PICKET_NONE_MISSING:
				x = x != x ? 0 : x;
				break;
			case PICKET_ZERO_MISSING: // 1e-35f is LightGBM's zero threshold
				x = x >= -1e-35f && x <= 1e-35f ? NAN : x;
				break;
			}
			*at++ = x;
		}
	}
	return to;
}

// Keys of a row of views, two each.
static void keys_of(const float *row, uint32_t views, int32_t *key) {
	for (uint32_t v = 0; v < views; v++) {
		float x = row[v] + 0.0f; // -0 has the key of 0
		int32_t k, missing = -(x != x);
		memcpy(&k, &x, sizeof k);
		k ^= (k >> 31) & INT32_MAX;
		key[2 * v] = (k & ~missing) | (INT32_MIN & missing);
		key[2 * v + 1] = (k & ~missing) | (INT32_MAX & missing);
	}
}

// Where the exits of a split's highest byte lead.
static inline __attribute__((always_inline)) uint32_t leave(const picket_block *b, const picket_split *s, uint32_t right) {
	uint32_t exit = s->slot >> (PICKET_SLOT_BITS + 4 * right);
	return b->to[exit >> 3 & 1] + (exit & 7);
}

// Takes a row down n blocks, at most TOGETHER, level by level: what a level of one waits for is there when those of the
// others have been asked for.
static inline __attribute__((always_inline)) void down(const picket_forest *f, const int32_t *key, const uint32_t *at, int n,
	uint32_t *to) {
	const picket_block *b[TOGETHER];
	uint32_t i[TOGETHER];
#pragma GCC unroll 8
	for (int k = 0; k < n; k++) {
		b[k] = &f->walk_blocks[at[k]];
		i[k] = key[b[k]->split->slot] >= b[k]->split->key;
	}
#pragma GCC unroll 8
	for (int k = 0; k < n; k++) {
		const picket_split *s = &b[k]->split[1 + i[k]];
		i[k] = 2 * i[k] + (key[s->slot] >= s->key);
	}
#pragma GCC unroll 8
	for (int k = 0; k < n; k++) {
		const picket_split *s = &b[k]->split[3 + i[k]];
		to[k] = leave(b[k], s, key[s->slot & ((1u << PICKET_SLOT_BITS) - 1)] >= s->key);
	}
}

// The same for a block that is a split by set. LightGBM cuts towards zero what lies above -1, XGBoost knows categories up to
// 2^24.
static uint32_t by_set(const picket_forest *f, const picket_block *b, const int32_t *key) {
	const picket_split *s = b->split;
	int32_t k = key[s->slot & ((1u << PICKET_SLOT_BITS) - 1)];
	float x;
	k ^= (k >> 31) & INT32_MAX; // back again; a missing value becomes a NaN
	memcpy(&x, &k, sizeof x);
	uint32_t left = (s->slot & PICKET_SET_LEFT) != 0, in = 0;
	if (left ? x > -1 && x < 2147483648.0f : x >= 0 && x < 16777216.0f) {
		uint32_t c = (uint32_t)x;
		in = c / 32 < (uint32_t)s->key && (f->words[(uint32_t)s[1].key + c / 32] >> (c % 32) & 1);
	} else if (!left && x != x)
		in = (s->slot & PICKET_SET_MISSING) != 0;
	return leave(b, s + 1, in ^ left);
}

// Takes a row down count trees from t on.
static inline __attribute__((always_inline)) void reach(const picket_forest *f, const int32_t *key, uint32_t t, uint32_t count,
	int sets, uint32_t *leaf) {
	uint32_t at[TREES + TOGETHER], n = 0;
	uint8_t tree[TREES + TOGETHER];
	for (uint32_t i = 0; i < count; i++) {
		leaf[i] = at[n] = f->roots[t + i];
		tree[n] = (uint8_t)i;
		n += !(at[n] >> 31);
	}
	while (n) {
		uint32_t left = 0;
		memset(at + n, 0, TOGETHER * sizeof *at); // blocks to look at for nothing
		for (uint32_t i = 0; i < n; i += TOGETHER) {
			uint32_t to[TOGETHER], some = n - i < TOGETHER ? n - i : TOGETHER;
			if (!sets)
				down(f, key, at + i, TOGETHER, to);
			else
				for (uint32_t k = 0; k < some; k++)
					if (f->walk_blocks[at[i + k]].split->slot & PICKET_SET)
						to[k] = by_set(f, &f->walk_blocks[at[i + k]], key);
					else
						down(f, key, at + i + k, 1, to + k);
			for (uint32_t k = 0; k < some; k++) {
				uint8_t whose = tree[i + k];
				leaf[whose] = at[left] = to[k];
				tree[left] = whose;
				left += !(to[k] >> 31);
			}
		}
		n = left;
	}
}

void picket_walk(const picket_forest *f, const float *in, size_t rows, void *out, uint8_t *scratch) {
	float *view = (float *)scratch;
	scratch += ((size_t)f->views * 4 + 63) / 64 * 64;
	size_t stride = ((size_t)f->views * 8 + 63) / 64 * 64;
	uint32_t leaf[TREES];
	struct sums sums[PICKET_WALK_ROWS];
	for (size_t from = 0; from < rows; from += PICKET_WALK_ROWS) {
		uint32_t some = rows - from < PICKET_WALK_ROWS ? (uint32_t)(rows - from) : PICKET_WALK_ROWS;
		for (uint32_t r = 0; r < some; r++) {
			keys_of(picket_views(f, in + (from + r) * f->features, 1, view), f->views, (int32_t *)(scratch + r * stride));
			sums_begin(&sums[r], f, (uint8_t *)out + (from + r) * f->groups * (f->wide ? 8 : 4));
		}
		for (uint32_t t = 0; t < f->trees; t += TREES) {
			uint32_t count = f->trees - t < TREES ? f->trees - t : TREES;
			for (uint32_t r = 0; r < some; r++) {
				const int32_t *key = (const int32_t *)(scratch + r * stride);
				if (PICKET_KNOWN(f, sets))
					reach(f, key, t, count, 1, leaf);
				else
					reach(f, key, t, count, 0, leaf);
				if (PICKET_KNOWN(f, wide))
					sums_add(&sums[r], t, count, leaf, f->leaves64, sizeof *f->leaves64);
				else
					sums_add(&sums[r], t, count, leaf, f->leaves32, sizeof *f->leaves32);
			}
		}
	}
}

static picket_kernel *kernel(int family, int slice) {
	switch (family) {
#if defined(__x86_64__)
	case PICKET_VBMI:
		return slice ? picket_slice_vbmi : picket_row_vbmi;
	case PICKET_BW:
		return slice ? picket_slice_bw : picket_row_bw;
	case PICKET_AVX2:
		return slice ? picket_slice_avx2 : picket_row_avx2;
#elif defined(__aarch64__)
	case PICKET_NEON:
		return slice ? picket_slice_neon : picket_row_neon;
#endif
	}
	return picket_walk;
}

void picket_forest_run(const picket_forest *f, int family, int slice, const float *in, size_t rows, void *out, uint8_t *scratch) {
	kernel(family, slice)(f, in, rows, out, scratch);
}

int picket_forest_finish(int family, uint32_t transform, uint32_t groups, uint32_t wide, double alpha, void *margins, size_t rows, float *out) {
	picket_finish how = {transform, groups, wide, alpha};
	switch (family) {
#if defined(__x86_64__)
	case PICKET_VBMI:
		picket_finish_vbmi(&how, margins, rows, out);
		return 1;
	case PICKET_BW:
		picket_finish_bw(&how, margins, rows, out);
		return 1;
	case PICKET_AVX2:
		picket_finish_avx2(&how, margins, rows, out);
		return 1;
#elif defined(__aarch64__)
	case PICKET_NEON:
		picket_finish_neon(&how, margins, rows, out);
		return 1;
#endif
	}
	return 0;
}

void picket_forest_order(int family, uint16_t *order) {
	switch (family) {
#if defined(__x86_64__)
	case PICKET_VBMI:
		picket_order_vbmi(order);
		break;
	case PICKET_BW:
		picket_order_bw(order);
		break;
	case PICKET_AVX2:
		picket_order_avx2(order);
		break;
#elif defined(__aarch64__)
	case PICKET_NEON:
		picket_order_neon(order);
		break;
#endif
	}
}

uint64_t picket_forest_time(const picket_forest *f, int family, int slice, const float *in, size_t rows, void *out, uint8_t *scratch,
	int runs) {
	uint64_t best = UINT64_MAX;
	picket_kernel *run = kernel(family, slice);
	for (int i = 0; i < runs; i++) {
		struct timespec from, to;
		clock_gettime(CLOCK_MONOTONIC, &from);
		run(f, in, rows, out, scratch);
		clock_gettime(CLOCK_MONOTONIC, &to);
		uint64_t took = (uint64_t)(to.tv_sec - from.tv_sec) * 1000000000u + (uint64_t)(to.tv_nsec - from.tv_nsec);
		if (took < best)
			best = took;
	}
	return best;
}
