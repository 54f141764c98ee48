// The row kernel, one row at a time, written once for all instruction sets. Whoever includes it has defined W, V, load,
// low64, high64, lanes, struct slots, slots_load, P, pattern, exits and rank_of; see
// vbmi_amd64.c.
//
// A block is seven splits in three levels. W / 8 blocks are compared at once, which gives a byte each: bit i is set where
// split i goes right (0 the root, 1 and 2 its children, 3 to 6 theirs). The byte tells the exit, 0 to 7. First come the
// top blocks of all trees, which lie side by side; then, 64 trees at a time, the blocks that their exits lead to.

#include <string.h>

#include "sums.inc.h"

// The patterns of the top blocks of 64 trees.
static inline __attribute__((always_inline)) struct patterns top_patterns(const picket_forest *f, uint32_t from, const struct slots *s,
	int registers) {
	struct patterns p;
	const uint8_t *slot = f->top_slots + (size_t)from * 8, *rank = f->top_ranks + (size_t)from * 8;
	for (int i = 0; i < 512 / W; i++)
		p.of[i] = pattern(s, registers, load(slot + i * W), load(rank + i * W));
	return p;
}

// The pattern of the W / 8 blocks that lie at the addresses at, each 8 slots and 8 ranks.
static inline __attribute__((always_inline)) P block_pattern(const uint8_t *const *at, const struct slots *s, int registers) {
	V a = lanes(at), b = lanes(at + 1); // every other one
	return pattern(s, registers, low64(a, b), high64(a, b));
}

// Adds the leaves of n trees from t on, the first of which is the i-th of its 64.
static inline __attribute__((always_inline)) void two_add(struct sums *s, uint32_t t, uint32_t n, const uint16_t *offset, uint32_t stride,
	int wide) {
	const uint8_t *base = s->f->blocks + (size_t)t * 8 * stride;
	for (uint32_t end = t + n; t < end;) {
		uint32_t run = sums_run(s, t, end);
		if (run == 8) {
#pragma GCC unroll 8
			for (int k = 0; k < 8; k++)
				if (wide)
					s->sum64 += *(const double *)(base + (size_t)k * 8 * stride + offset[k]);
				else
					s->sum32 += *(const float *)(base + (size_t)k * 8 * stride + offset[k]);
		} else
			for (uint32_t k = 0; k < run; k++)
				if (wide)
					s->sum64 += *(const double *)(base + (size_t)k * 8 * stride + offset[k]);
				else
					s->sum32 += *(const float *)(base + (size_t)k * 8 * stride + offset[k]);
		base += (size_t)run * 8 * stride;
		offset += run;
		t += run;
		if (t == s->f->group_first[s->group + 1])
			sums_pass(s, t);
	}
}

// Every tree two blocks deep.
static inline __attribute__((always_inline)) void row_two(const picket_forest *f, const struct slots *slots, int registers,
	uint32_t stride, int wide, uint8_t *scratch, struct sums *sums) {
	uint16_t(*offset)[64] = (uint16_t(*)[64])scratch;
	uint8_t *second = scratch + 256, *exit = scratch + 320; // of all trees
	const uint32_t value = wide ? 64 : 16, shift = wide ? 3 : 2;
	for (uint32_t from = 0; from < f->trees; from += 64)
		exits(exit + from, top_patterns(f, from, slots, registers));
	for (uint32_t from = 0; from < f->trees + 64; from += 64) {
		// The additions wait for each other, so those of the last 64 trees are strewn among the work on the next.
		uint32_t before = from - 64, left = from == 0 ? 0 : f->trees - before < 64 ? f->trees - before : 64;
		const uint16_t *done = offset[(from / 64 + 1) & 1];
		if (from >= f->trees) {
			for (uint32_t i = 0; i < left; i += 8)
				two_add(sums, before + i, left - i < 8 ? left - i : 8, done + i, stride, wide);
			break;
		}
		const uint8_t *base = f->blocks + (size_t)from * 8 * stride, *first = exit + from;
		struct patterns p;
#pragma GCC unroll 2
		for (uint32_t i = 0; i < 64; i += 8) {
#pragma GCC unroll 4
			for (uint32_t j = i; j < i + 8; j += W / 8) {
				const uint8_t *at[W / 8];
#pragma GCC unroll 8
				for (uint32_t k = 0; k < W / 8; k++, base += (size_t)8 * stride)
					at[k] = base + (size_t)first[j + k] * stride;
				p.of[j * 8 / W] = block_pattern(at, slots, registers);
			}
			if (i < left) // all 64 of them, as more trees follow
				two_add(sums, before + i, 8, done + i, stride, wide);
		}
		exits(second, p);
		uint16_t *o = offset[(from / 64) & 1];
		for (uint32_t i = 0; i < 64; i++)
			o[i] = (uint16_t)(first[i] * stride + value + (second[i] << shift));
	}
}

// Trees of any shape. Lists of blocks are looked at as a whole, first all of their patterns, then where these lead: so many
// blocks are on their way from memory, and little waits for them.
static inline __attribute__((always_inline)) void row_any(const picket_forest *f, const struct slots *slots, int registers,
	uint8_t *scratch, struct sums *sums) {
	uint32_t *leaf = (uint32_t *)scratch, *at = leaf + PICKET_ROW_TREES; // and 16 more
	P *pattern_of = (P *)(at + PICKET_ROW_TREES + 16);
	uint8_t *tree = (uint8_t *)(pattern_of + PICKET_ROW_TREES * 8 / W), *exit = tree + PICKET_ROW_TREES;
	for (uint32_t from = 0; from < f->trees; from += PICKET_ROW_TREES) {
		uint32_t count = f->trees - from < PICKET_ROW_TREES ? f->trees - from : PICKET_ROW_TREES, n = 0;
		for (uint32_t i = 0; i < count; i += 64)
			exits(exit + i, top_patterns(f, from + i, slots, registers));
		for (uint32_t i = 0; i < count; i++) {
			uint32_t to = f->top_exits[(size_t)(from + i) * 8 + exit[i]];
			leaf[i] = at[n] = to;
			tree[n] = (uint8_t)i;
			n += !(to >> 31);
		}
		while (n) {
			memset(at + n, 0, 16 * sizeof *at); // blocks to look at for nothing
			for (uint32_t i = 0; i < n; i += W / 8) {
				const uint8_t *block[W / 8];
#pragma GCC unroll 8
				for (uint32_t k = 0; k < W / 8; k++)
					block[k] = f->blocks + (size_t)at[i + k] * 4;
				pattern_of[i * 8 / W] = block_pattern(block, slots, registers);
			}
			uint32_t m = 0;
			for (uint32_t i = 0; i < n; i++) {
				uint8_t whose = tree[i], e = exit_of[((const uint8_t *)pattern_of)[i]];
				uint32_t to = ((const uint16_t *)(f->blocks + (size_t)at[i] * 4 + PICKET_BLOCK_EXITS))[e];
				to = at[i] + to + (to >> 15) * (PICKET_LEAF - 0x8000u);
				leaf[whose] = at[m] = to;
				tree[m] = whose;
				m += !(to >> 31);
			}
			n = m;
		}
		sums_add(sums, from, count, leaf, f->blocks, 4);
	}
}

static inline __attribute__((always_inline)) void row_margins(const picket_forest *f, int registers, const float *in, size_t rows,
	char *out, uint8_t *scratch) {
	float *view = (float *)scratch;
	scratch += ((size_t)f->views * 4 + 63) / 64 * 64;
	uint8_t *rank = scratch; // twice 256
	scratch += 512;
	memset(rank, 0, 512);
	for (size_t r = 0; r < rows; r++, in += f->features, out += f->groups * (f->wide ? 8 : 4)) {
		const float *row = picket_views(f, in, 1, view);
		for (uint32_t u = 0; u < f->row_units; u++) {
			float x = row[f->row_unit_view[u]];
			uint8_t here = (uint8_t)rank_of(x, f->row_thresholds + (size_t)u * PICKET_UNIT), missing = (uint8_t)-(x != x);
			rank[u] = here | (missing & f->row_unit_missing[u]);
			rank[f->row_copies + u] = here | missing;
		}
		struct slots slots = slots_load(rank, registers);
		struct sums sums;
		sums_begin(&sums, f, out);
		if (!PICKET_KNOWN(f, row_two))
			row_any(f, &slots, registers, scratch, &sums);
		else if (PICKET_KNOWN(f, wide))
			row_two(f, &slots, registers, 128, 1, scratch, &sums);
		else
			row_two(f, &slots, registers, 64, 0, scratch, &sums);
	}
}

void ROW(const picket_forest *f, const float *in, size_t rows, void *out, uint8_t *scratch) {
	switch (PICKET_KNOWN(f, row_registers)) {
	case 1:
		row_margins(f, 1, in, rows, out, scratch);
		return;
	case 2:
		row_margins(f, 2, in, rows, out, scratch);
		return;
	case 4:
		row_margins(f, 4, in, rows, out, scratch);
		return;
	}
	picket_walk(f, in, rows, out, scratch);
}
