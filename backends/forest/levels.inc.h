// ranks_of, a function for every number of levels that a unit's heap may have. Whoever includes it has defined ranks_down.

static __attribute__((noinline)) uint32_t ranks_of(const picket_forest *f, uint32_t u, const float *x, uint32_t n, uint8_t *rank, uint8_t *missing,
	const uint16_t *place) {
	const float *heap = f->search + (size_t)u * 256;
	switch (f->levels[u]) {
	case 4:
		return ranks_down(heap, 4, x, n, rank, missing, place);
	case 5:
		return ranks_down(heap, 5, x, n, rank, missing, place);
	case 6:
		return ranks_down(heap, 6, x, n, rank, missing, place);
	case 7:
		return ranks_down(heap, 7, x, n, rank, missing, place);
	}
	return ranks_down(heap, 8, x, n, rank, missing, place);
}
