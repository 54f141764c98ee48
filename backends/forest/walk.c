#define _GNU_SOURCE
#include "forest.h"

#include <math.h>
#include <string.h>
#include <time.h>

// The kernel that takes every model and runs on every processor: eight trees of a row at a time go down one level each,
// without branches, so that eight loads are in flight.

enum { TOGETHER = 8 };

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

static inline uint32_t step(const picket_node *nodes, const float *row, uint32_t i) {
	const picket_node *n = &nodes[i];
	float x = row[n->what & PICKET_VIEW];
	uint32_t right = (uint32_t)(x >= n->t) | ((uint32_t)(x != x) & (n->what >> 31));
	return n->child + right;
}

// Slow: for the trees that have splits by set.
static uint32_t walk_sets(const picket_forest *f, const float *row, uint32_t i) {
	const picket_node *nodes = f->nodes;
	while (nodes[i].child != i) {
		const picket_node *n = &nodes[i];
		if (!(n->what & (PICKET_SET_RIGHT | PICKET_SET_LEFT))) {
			i = step(nodes, row, i);
			continue;
		}
		float x = row[n->what & PICKET_VIEW];
		uint32_t words, right;
		memcpy(&words, &n->t, sizeof words);
		int left_set = (n->what & PICKET_SET_LEFT) != 0, in = 0;
		// LightGBM cuts towards zero what lies above -1, XGBoost knows categories up to 2^24.
		if (left_set ? x > -1 && x < 2147483648.0f : x >= 0 && x < 16777216.0f) {
			uint32_t c = (uint32_t)x;
			in = c / 32 < words && (f->words[n->leaf + c / 32] >> (c % 32) & 1);
		}
		if (left_set)
			right = !in;
		else
			right = x != x ? n->what >> 31 : (uint32_t)in;
		i = n->child + right;
	}
	return i;
}

static inline void reach(const picket_forest *f, const float *row, uint32_t t, uint32_t count, uint32_t *leaf) {
	uint32_t at[TOGETHER], deepest = 0;
	for (uint32_t j = 0; j < count; j++) {
		at[j] = f->roots[t + j];
		if (f->sets_in[t + j])
			at[j] = walk_sets(f, row, at[j]);
		else if (f->depths[t + j] > deepest)
			deepest = f->depths[t + j];
	}
	if (count == TOGETHER) {
		for (uint32_t d = 0; d < deepest;) {
			uint32_t until = d + 4 < deepest ? d + 4 : deepest, moved = 0;
			for (; d < until; d++)
				for (int j = 0; j < TOGETHER; j++) {
					uint32_t next = step(f->nodes, row, at[j]);
					moved |= next ^ at[j];
					at[j] = next;
				}
			if (!moved)
				break;
		}
	} else
		for (uint32_t j = 0; j < count; j++)
			while (f->nodes[at[j]].child != at[j])
				at[j] = step(f->nodes, row, at[j]);
	for (uint32_t j = 0; j < count; j++)
		leaf[j] = f->nodes[at[j]].leaf;
}

void picket_walk(const picket_forest *f, const float *in, size_t rows, void *out, uint8_t *scratch) {
	uint32_t leaf[TOGETHER];
	for (size_t r = 0; r < rows; r++, in += f->features) {
		const float *row = picket_views(f, in, 1, (float *)scratch);
		for (uint32_t g = 0; g < f->groups; g++) {
			double wide = f->base_last ? 0 : f->base[g];
			float sum = (float)wide;
			uint32_t end = f->group_first[g + 1];
			for (uint32_t t = f->group_first[g]; t < end; t += TOGETHER) {
				uint32_t count = end - t < TOGETHER ? end - t : TOGETHER;
				reach(f, row, t, count, leaf);
				if (f->wide)
					for (uint32_t j = 0; j < count; j++)
						wide += f->leaves64[leaf[j]];
				else
					for (uint32_t j = 0; j < count; j++)
						sum += f->leaves32[leaf[j]];
			}
			if (f->wide)
				((double *)out)[r * f->groups + g] = wide;
			else
				((float *)out)[r * f->groups + g] = f->base_last ? sum + (float)f->base[g] : sum;
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
