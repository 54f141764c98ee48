// The row kernel, one row at a time, written once for all instruction sets. Whoever includes it has defined W, V, load,
// store, low64, high64, struct slots, slots_load, patterns, exits, rank_of and missing_of; see vbmi.c.
//
// A block is seven splits in three levels. W / 8 blocks are compared at once, which gives a byte each: bit i is set where
// split i goes right (0 the root, 1 and 2 its children, 3 to 6 theirs). The byte tells the exit, 0 to 7. First come the
// top blocks of all trees, which lie side by side; then, 64 trees at a time, the blocks that their exits lead to.

#include <string.h>

// The sums of a row. Trees are added in their order, group after group.
struct sums {
	const picket_forest *f;
	void *out;
	uint32_t group;
	float sum32;
	double sum64;
};

static inline void sums_begin(struct sums *s) {
	s->sum64 = s->f->base_last ? 0 : s->f->base[s->group];
	s->sum32 = (float)s->sum64;
}

// Ends the groups whose last tree is before t.
static inline void sums_pass(struct sums *s, uint32_t t) {
	while (s->group < s->f->groups && s->f->group_first[s->group + 1] <= t) {
		if (s->f->wide)
			((double *)s->out)[s->group] = s->sum64;
		else
			((float *)s->out)[s->group] = s->f->base_last ? s->sum32 + (float)s->f->base[s->group] : s->sum32;
		if (++s->group < s->f->groups)
			sums_begin(s);
	}
}

// How many trees from t on, of the next 64, belong to the group of t.
static inline uint32_t sums_run(const struct sums *s, uint32_t t, uint32_t end) {
	uint32_t last = s->f->group_first[s->group + 1];
	return (last < end ? last : end) - t;
}

static inline const uint8_t *two_block(const picket_forest *f, uint32_t t, uint32_t stride) {
	return f->blocks + (size_t)t * 8 * stride;
}

// Where the block of the i-th tree is put, so that low64 and high64 bring slots and ranks into the trees' order.
static inline size_t staged(uint32_t i) {
	return (size_t)(i / (W / 8)) * 2 * W + (i & 1) * W + (i % (W / 8) / 2) * 16;
}

static inline void copy16(uint8_t *to, const uint8_t *from) {
	typedef uint8_t B __attribute__((vector_size(16), aligned(16), may_alias));
	*(B *)to = *(const B *)from;
}

static inline __attribute__((always_inline)) void patterns_staged(uint8_t *to, const uint8_t *stage, uint32_t trees,
	const struct slots *slots, int registers) {
	for (uint32_t i = 0; i < trees; i += W / 8) {
		V a = load(stage + (size_t)i * 16), b = load(stage + (size_t)i * 16 + W);
		patterns(to + i, slots, registers, low64(a, b), high64(a, b));
	}
}

// Every tree two blocks deep.
static inline __attribute__((always_inline)) void row_two(const picket_forest *f, const struct slots *slots, int registers,
	const uint8_t *exit, uint32_t stride, int wide, uint8_t *scratch, struct sums *sums) {
	uint8_t *stage = scratch;                           // 64 * 16
	uint8_t *pattern = scratch + 1024;                  // 64
	uint8_t *second = scratch + 1088;                   // 64
	uint16_t(*offset)[64] = (uint16_t(*)[64])(scratch + 1152); // 2 * 64 * 2
	uint32_t value = wide ? 64 : 16, shift = wide ? 3 : 2;
	for (uint32_t from = 0; from < f->trees + 64; from += 64) {
		if (from < f->trees) {
			const uint8_t *base = two_block(f, from, stride);
			for (uint32_t i = 0; i < 64; i++)
				copy16(stage + staged(i), base + (size_t)i * 8 * stride + (uint32_t)exit[from + i] * stride);
			patterns_staged(pattern, stage, 64, slots, registers);
			exits(second, pattern, 64);
			uint16_t *o = offset[(from / 64) & 1];
			for (uint32_t i = 0; i < 64; i++)
				o[i] = (uint16_t)(exit[from + i] * stride + value + (second[i] << shift));
		}
		// The additions wait for each other; meanwhile the next trees are looked at.
		if (from >= 64) {
			const uint16_t *o = offset[(from / 64 - 1) & 1];
			uint32_t t = from - 64, end = from < f->trees ? from : f->trees;
			while (t < end) {
				uint32_t n = sums_run(sums, t, end), i = t % 64;
				const uint8_t *base = two_block(f, t, stride);
				if (wide) {
					double sum = sums->sum64;
					for (uint32_t j = 0; j < n; j++)
						sum += *(const double *)(base + (size_t)j * 8 * stride + o[i + j]);
					sums->sum64 = sum;
				} else {
					float sum = sums->sum32;
					uint32_t j = 0;
					for (; j + 8 <= n; j += 8, base += (size_t)64 * stride)
						for (int k = 0; k < 8; k++)
							sum += *(const float *)(base + (size_t)k * 8 * stride + o[i + j + k]);
					for (; j < n; j++, base += (size_t)8 * stride)
						sum += *(const float *)(base + o[i + j]);
					sums->sum32 = sum;
				}
				sums_pass(sums, t += n);
			}
		}
	}
}

// Trees of any shape.
static inline __attribute__((always_inline)) void row_any(const picket_forest *f, const struct slots *slots, int registers,
	const uint8_t *exit, uint8_t *scratch, struct sums *sums) {
	uint8_t *stage = scratch;                    // 64 * 16
	uint8_t *pattern = scratch + 1024;           // 64
	uint8_t *next = scratch + 1088;              // 64
	uint8_t *tree = scratch + 1152;              // 64
	uint32_t *block = (uint32_t *)(scratch + 1216); // 64 * 4
	uint32_t *leaf = (uint32_t *)(scratch + 1472);  // 64 * 4
	for (uint32_t from = 0; from < f->trees; from += 64) {
		uint32_t count = f->trees - from < 64 ? f->trees - from : 64, n = 0;
		for (uint32_t i = 0; i < count; i++) {
			uint32_t to = f->top_exits[(size_t)(from + i) * 8 + exit[from + i]];
			leaf[i] = block[n] = to;
			tree[n] = (uint8_t)i;
			n += !(to >> 31);
		}
		while (n) {
			for (uint32_t i = 0; i < n; i++)
				copy16(stage + staged(i), f->blocks + (size_t)block[i] * PICKET_BLOCK);
			patterns_staged(pattern, stage, n, slots, registers);
			exits(next, pattern, n);
			uint32_t m = 0;
			for (uint32_t i = 0; i < n; i++) {
				uint32_t to = ((const uint32_t *)(f->blocks + (size_t)block[i] * PICKET_BLOCK + 16))[next[i]];
				uint8_t t = tree[i];
				leaf[t] = block[m] = to;
				tree[m] = t;
				m += !(to >> 31);
			}
			n = m;
		}
		uint32_t t = from, end = from + count;
		while (t < end) {
			uint32_t n = sums_run(sums, t, end);
			if (f->wide)
				for (uint32_t j = 0; j < n; j++)
					sums->sum64 += f->leaves64[leaf[t - from + j] & ~PICKET_LEAF];
			else
				for (uint32_t j = 0; j < n; j++)
					sums->sum32 += f->leaves32[leaf[t - from + j] & ~PICKET_LEAF];
			sums_pass(sums, t += n);
		}
	}
}

static inline __attribute__((always_inline)) void row_margins(const picket_forest *f, int registers, const float *in, size_t rows,
	char *out, uint8_t *scratch) {
	float *view = (float *)scratch;
	scratch += ((size_t)f->views * 4 + 63) / 64 * 64;
	uint8_t *rank = scratch; // 256: slots of missing as 0, then of missing as 255
	scratch += 256;
	uint32_t all = (f->trees + 63) / 64 * 64;
	uint8_t *exit = scratch, *pattern = scratch + all;
	scratch += 2 * (size_t)all;
	memset(rank, 0, 256);
	for (size_t r = 0; r < rows; r++, in += f->features, out += f->groups * (f->wide ? 8 : 4)) {
		const float *row = picket_views(f, in, 1, view);
		for (uint32_t u = 0; u < f->units; u++)
			rank[u] = (uint8_t)rank_of(row[f->unit_view[u]], f->thresholds + (size_t)u * PICKET_UNIT);
		for (uint32_t u = 0; u < f->units; u++)
			rank[32 * registers + u] = rank[u] | missing_of(row[f->unit_view[u]]);
		struct slots slots = slots_load(rank, registers);
		for (size_t i = 0; i < (size_t)all * 8; i += W)
			patterns(pattern + i / 8, &slots, registers, load(f->top_slots + i), load(f->top_ranks + i));
		exits(exit, pattern, all);
		struct sums sums = {f, out, 0, 0, 0};
		sums_begin(&sums);
		sums_pass(&sums, 0);
		if (!f->row_two)
			row_any(f, &slots, registers, exit, scratch, &sums);
		else if (f->wide)
			row_two(f, &slots, registers, exit, 128, 1, scratch, &sums);
		else
			row_two(f, &slots, registers, exit, 64, 0, scratch, &sums);
	}
}

void ROW(const picket_forest *f, const float *in, size_t rows, void *out, uint8_t *scratch) {
	switch (f->row_registers) {
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
