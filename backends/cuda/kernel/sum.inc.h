// The sum of a row's leaves, of VALUE, and the kernels that are made of it. Whoever includes this has defined VALUE, LEAF, FINISH and NAME.

// The sums of a row as far as they are known.
typedef struct {
	VALUE sum;
	uint32_t group, next; // group, and the first tree that is not of it any more
} NAME(sums);

INLINE void NAME(begin)(const picket_run *r, NAME(sums) * s) {
	s->sum = r->base_last ? 0 : (VALUE)r->base[s->group];
	s->next = r->group_first[s->group + 1];
}

// Ends the groups whose last tree is before tree.
INLINE void NAME(pass)(const picket_run *r, NAME(sums) * s, uint32_t row, uint32_t tree) {
	while (s->group < r->groups && s->next <= tree) {
		VALUE sum = s->sum;
		if (r->base_last)
			sum += (VALUE)r->base[s->group];
		((VALUE *)r->margins)[(uint64_t)row * r->groups + s->group] = sum;
		if (++s->group < r->groups)
			NAME(begin)(r, s);
	}
}

// Adds up the leaves that the lanes have found of a row, in the order of the trees from from on. Those of one group are loaded some at a time,
// so that an addition waits for no load but only for the addition before it.
INLINE void NAME(add)(const picket_run *r, NAME(sums) * s, uint32_t row, uint32_t from, const VALUE *tile) {
	uint32_t found = r->lanes * PICKET_STEP, end = r->trees - from < found ? r->trees - from : found;
	for (uint32_t k = 0; k < end;) {
		NAME(pass)(r, s, row, from + k);
		uint32_t last = s->next - from < end ? s->next - from : end;
		VALUE sum = s->sum;
		for (; k + PICKET_AHEAD <= last; k += PICKET_AHEAD) {
			VALUE some[PICKET_AHEAD];
			UNROLLED
			for (uint32_t i = 0; i < PICKET_AHEAD; i++)
				some[i] = tile[(k + i) * r->block_rows];
			UNROLLED
			for (uint32_t i = 0; i < PICKET_AHEAD; i++)
				sum += some[i];
		}
		SMALL
		for (; k < last; k++)
			sum += tile[k * r->block_rows];
		s->sum = sum;
	}
}

#define SUM_KERNEL(name, sets) \
	KERNEL(name) { \
		PRIVATE(NAME(sums), sums); \
		float *staged = (float *)shared; \
		VALUE *tile = (VALUE *)(shared + run.staged); \
		uint32_t first = BLOCK * run.block_rows; \
		uint32_t rows = run.rows - first < run.block_rows ? run.rows - first : run.block_rows; \
		EACH_THREAD { \
			if (run.staged) \
				stage(&run, first, rows, t, staged); \
			MINE(sums).group = 0; \
			NAME(begin)(&run, &MINE(sums)); \
		} \
		MEET; \
		for (uint32_t from = 0; from < run.trees; from += run.lanes * PICKET_STEP) { \
			EACH_THREAD { \
				uint32_t row = t & (run.block_rows - 1), lane = t >> run.row_bits, tree[PICKET_STEP]; \
				picket_node leaf[PICKET_STEP]; \
				if (row >= rows) \
					continue; \
				for (int k = 0; k < PICKET_STEP; k++) \
					tree[k] = from + (uint32_t)k * run.lanes + lane; \
				/* Two calls, so that the compiler knows in each which memory it loads from. */ \
				if (run.staged) \
					descend(&run, staged + row * run.stride, run.apart, tree, sets, leaf); \
				else \
					descend(&run, run.in + (uint64_t)(first + row) * run.features, 1, tree, sets, leaf); \
				if (run.lanes == 1 && from + PICKET_STEP <= MINE(sums).next) { /* nearly always: all of one group */ \
					UNROLLED \
					for (int k = 0; k < PICKET_STEP; k++) \
						MINE(sums).sum += LEAF(leaf[k]); \
				} else if (run.lanes == 1) { \
					UNROLLED \
					for (int k = 0; k < PICKET_STEP; k++) { \
						if (tree[k] >= run.trees) \
							continue; \
						NAME(pass)(&run, &MINE(sums), first + row, tree[k]); \
						MINE(sums).sum += LEAF(leaf[k]); \
					} \
				} else { \
					for (int k = 0; k < PICKET_STEP; k++) \
						tile[((uint32_t)k * run.lanes + lane) * run.block_rows + row] = LEAF(leaf[k]); \
				} \
			} \
			if (run.lanes > 1) { \
				MEET; \
				EACH_THREAD { \
					if (t >= rows) \
						continue; \
					NAME(add)(&run, &MINE(sums), first + t, from, tile + t); \
				} \
				MEET; \
			} \
		} \
		EACH_THREAD { \
			if (t >= rows) \
				continue; \
			NAME(pass)(&run, &MINE(sums), first + t, run.trees); \
			if (run.transform != PICKET_MARGINS) \
				FINISH(first + t, run.groups); \
		} \
	}

SUM_KERNEL(NAME(picket_forest), 0)
SUM_KERNEL(NAME(picket_forest_sets), 1)
#undef SUM_KERNEL
