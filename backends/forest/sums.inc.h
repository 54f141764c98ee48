// What the kernels for few rows share. Trees are added in their order, group after group.

#include "forest.h"

// The sums of a row. Trees are added in their order, group after group.
struct sums {
	const picket_forest *f;
	void *out;
	uint32_t group;
	float sum32;
	double sum64;
};

static inline __attribute__((always_inline)) void sums_base(struct sums *s) {
	s->sum64 = s->f->base_last ? 0 : s->f->base[s->group];
	s->sum32 = (float)s->sum64;
}

// Ends the groups whose last tree is before t.
static inline __attribute__((always_inline)) void sums_pass(struct sums *s, uint32_t t) {
	while (s->group < s->f->groups && s->f->group_first[s->group + 1] <= t) {
		if (PICKET_KNOWN(s->f, wide))
			((double *)s->out)[s->group] = s->sum64;
		else
			((float *)s->out)[s->group] = s->f->base_last ? s->sum32 + (float)s->f->base[s->group] : s->sum32;
		if (++s->group < s->f->groups)
			sums_base(s);
	}
}

// How many trees from t on, of the next 64, belong to the group of t.
static inline uint32_t sums_run(const struct sums *s, uint32_t t, uint32_t end) {
	uint32_t last = s->f->group_first[s->group + 1];
	return (last < end ? last : end) - t;
}

// A row that has been through no tree yet, and whose margins go to out.
static inline __attribute__((always_inline)) void sums_begin(struct sums *s, const picket_forest *f, void *out) {
	s->f = f;
	s->out = out;
	s->group = 0;
	sums_base(s);
	sums_pass(s, 0);
}

// Adds the leaves of count trees from t on, which lie from base on in units of that many bytes.
static inline __attribute__((always_inline)) void sums_add(struct sums *s, uint32_t t, uint32_t count, const uint32_t *leaf,
	const void *base, size_t unit) {
	const picket_forest *f = s->f;
	for (uint32_t end = t + count; t < end;) {
		uint32_t n = sums_run(s, t, end);
		for (uint32_t j = 0; j < n; j++) {
			const void *value = (const uint8_t *)base + (leaf[j] & ~PICKET_LEAF) * unit;
			if (PICKET_KNOWN(f, wide))
				s->sum64 += *(const double *)value;
			else
				s->sum32 += *(const float *)value;
		}
		leaf += n;
		sums_pass(s, t += n);
	}
}
