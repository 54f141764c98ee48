// The slice kernel, 8 * W rows at a time, written once for all instruction sets. Bit r of a register of W bytes is row r.
//
// For every distinct threshold there is one mask, of the rows that go right there; it is computed once, from the bits of
// the rows' ranks. A tree then selects among masks, level by level, which gives the bits of the rows' leaf numbers; eight
// of these registers are turned into bytes, and byte permutes bring the leaves. Whoever includes this has defined W, V,
// load, store, sel, unpack8lo ... unpack32hi, transpose, lookup, lookup_in, bits_of, ranks_of and missing_bits; see vbmi_amd64.c.

enum { ROWS = W * 8 };

#define INLINE static inline __attribute__((always_inline))

// What scratch memory is divided into.
struct slice {
	const picket_forest *f;
	uint8_t *ranks;   // units * ROWS
	uint8_t *missing; // a line of zeros, then a line for every unit
	uint8_t *masks;   // a line for every rank of a unit
	uint8_t *reach;   // lines of a tree of any shape
	uint8_t *sums;    // groups * ROWS sums
};

// The masks v >= j for j = 0 to 15 of numbers of four bits.
INLINE void thermometer(const V *bit, V *ge) {
	V none = bit[0] ^ bit[0], all = ~none;
	V low[4] = {all, bit[0] | bit[1], bit[1], bit[0] & bit[1]};
	V high[5] = {all, bit[2] | bit[3], bit[3], bit[2] & bit[3], none};
	for (int h = 0; h < 4; h++)
		for (int l = 0; l < 4; l++)
			ge[4 * h + l] = high[h + 1] | (high[h] & low[l]);
}

// Makes the masks of one unit. Line k is rank >= k.
static void unit_masks(const uint8_t *ranks, uint32_t size, uint8_t *masks) {
	V bit[8], low[16], high[17];
	bits_of(ranks, bit);
	thermometer(bit, low);
	thermometer(bit + 4, high);
	high[16] = bit[0] ^ bit[0];
	uint32_t h = 0, lines = size + 1;
	for (; 16 * (h + 1) <= lines; h++, masks += 16 * W)
		for (int l = 0; l < 16; l++)
			store(masks + l * W, high[h + 1] | (high[h] & low[l]));
	for (uint32_t l = 0; 16 * h + l < lines; l++)
		store(masks + l * W, high[h + 1] | (high[h] & low[l]));
}

INLINE V mask_of(const struct slice *s, const uint32_t *mask, const uint32_t *side, uint32_t i, int missing) {
	V m = load(s->masks + mask[i]);
	if (missing)
		m |= load(s->missing + side[i]);
	return m;
}

#define M(i) mask_of(s, mask, side, i, missing)

INLINE V level1(const struct slice *s, const uint32_t *mask, const uint32_t *side, int missing, const V *p, uint32_t i) {
	return sel(p[0], M(i), M(i + 1));
}
INLINE V level2(const struct slice *s, const uint32_t *mask, const uint32_t *side, int missing, const V *p, uint32_t i) {
	V a = level1(s, mask, side, missing, p + 1, i), b = level1(s, mask, side, missing, p + 1, i + 2);
	return sel(p[0], a, b);
}
INLINE V level3(const struct slice *s, const uint32_t *mask, const uint32_t *side, int missing, const V *p, uint32_t i) {
	V a = level2(s, mask, side, missing, p + 1, i), b = level2(s, mask, side, missing, p + 1, i + 4);
	return sel(p[0], a, b);
}
INLINE V level4(const struct slice *s, const uint32_t *mask, const uint32_t *side, int missing, const V *p, uint32_t i) {
	V a = level3(s, mask, side, missing, p + 1, i), b = level3(s, mask, side, missing, p + 1, i + 8);
	return sel(p[0], a, b);
}
INLINE V level5(const struct slice *s, const uint32_t *mask, const uint32_t *side, int missing, const V *p, uint32_t i) {
	V a = level4(s, mask, side, missing, p + 1, i), b = level4(s, mask, side, missing, p + 1, i + 16);
	return sel(p[0], a, b);
}

// The bits of the leaf numbers of a complete tree, the lowest first. Its nodes are in the order of a heap.
INLINE void complete(const struct slice *s, const uint32_t *mask, const uint32_t *side, int missing, uint32_t depth, V *plane) {
	V none = load(s->missing), p[6];
	p[0] = M(0);
	p[1] = level1(s, mask, side, missing, p, 1);
	p[2] = level2(s, mask, side, missing, p, 3);
	if (depth > 3)
		p[3] = level3(s, mask, side, missing, p, 7);
	if (depth > 4)
		p[4] = level4(s, mask, side, missing, p, 15);
	if (depth > 5)
		p[5] = level5(s, mask, side, missing, p, 31);
	for (uint32_t i = 0; i < 6; i++)
		plane[i] = i < depth ? p[depth - 1 - i] : none;
}

// Adds the leaves of a tree to the sums of its group. page says, line by line, which rows end in the second, third ...
// 64 leaves.
INLINE void add_leaves(const struct slice *s, const picket_slice_tree *t, const V *plane, const uint8_t *page, uint32_t pages,
	int wide, uint32_t rows) {
	const uint8_t *table = s->f->slice_leaves + (size_t)t->table * 64;
	V index[8];
	transpose(plane, index);
	int bytes = wide ? 8 : 4;
	uint8_t *sums = s->sums + (size_t)t->group * ROWS * bytes;
	for (uint32_t i = 0; i * W < rows; i++) {
		if (wide) {
			V b[8];
			for (int j = 0; j < 8; j++)
				b[j] = lookup(table + j * 64, index[i]);
			for (uint32_t p = 1; p < pages; p++) {
				V in = spread(page + (size_t)p * W, i);
				for (int j = 0; j < 8; j++)
					b[j] = lookup_in(in, b[j], table + ((size_t)p * 8 + j) * 64, index[i]);
			}
			V c[8] = {unpack8lo(b[0], b[1]), unpack8hi(b[0], b[1]), unpack8lo(b[2], b[3]), unpack8hi(b[2], b[3]),
				unpack8lo(b[4], b[5]), unpack8hi(b[4], b[5]), unpack8lo(b[6], b[7]), unpack8hi(b[6], b[7])};
			V low[4] = {unpack16lo(c[0], c[2]), unpack16hi(c[0], c[2]), unpack16lo(c[1], c[3]), unpack16hi(c[1], c[3])};
			V high[4] = {unpack16lo(c[4], c[6]), unpack16hi(c[4], c[6]), unpack16lo(c[5], c[7]), unpack16hi(c[5], c[7])};
			for (int j = 0; j < 4; j++) {
				add64(sums + (i * 8 + 2 * j) * W, unpack32lo(low[j], high[j]));
				add64(sums + (i * 8 + 2 * j + 1) * W, unpack32hi(low[j], high[j]));
			}
		} else {
			V b[4];
			for (int j = 0; j < 4; j++)
				b[j] = lookup(table + j * 64, index[i]);
			for (uint32_t p = 1; p < pages; p++) {
				V in = spread(page + (size_t)p * W, i);
				for (int j = 0; j < 4; j++)
					b[j] = lookup_in(in, b[j], table + ((size_t)p * 4 + j) * 64, index[i]);
			}
			V lo01 = unpack8lo(b[0], b[1]), hi01 = unpack8hi(b[0], b[1]), lo23 = unpack8lo(b[2], b[3]), hi23 = unpack8hi(b[2], b[3]);
			add32(sums + (i * 4 + 0) * W, unpack16lo(lo01, lo23));
			add32(sums + (i * 4 + 1) * W, unpack16hi(lo01, lo23));
			add32(sums + (i * 4 + 2) * W, unpack16lo(hi01, hi23));
			add32(sums + (i * 4 + 3) * W, unpack16hi(hi01, hi23));
		}
	}
}

// The bits of the leaf numbers of a tree of any shape: which rows reach a node follows from its parent, and a bit of the
// number is set for the rows that reach one of the leaves that have it. Pages of 64 leaves are kept apart.
INLINE uint32_t any_shape(const struct slice *s, const picket_slice_tree *t, int missing, V *plane, uint8_t *page) {
	const uint32_t *mask = s->f->slice_mask + t->first, *side = s->f->slice_side + t->first;
	const uint32_t *to = s->f->slice_to + (size_t)t->first * 3;
	V none = load(s->missing);
	store(s->reach + (t->splits ? to[0] : 0), ~none);
	for (uint32_t i = 0; i < t->splits; i++, to += 3) {
		V here = load(s->reach + to[0]), m = M(i);
		store(s->reach + to[1], here & ~m);
		store(s->reach + to[2], here & m);
	}
	for (int i = 0; i < 6; i++)
		plane[i] = none;
	// The leaves are the first lines, a multiple of eight of them; those that no leaf has are never written and stay empty.
	uint32_t pages = (t->leaves + 63) / 64;
	for (uint32_t p = 0; p < pages; p++) {
		V in = none;
		uint32_t until = t->leaves < 64 * (p + 1) ? t->leaves : 64 * (p + 1);
		for (uint32_t i = 64 * p; i < until; i += 8) {
			const uint8_t *l = s->reach + (size_t)i * W;
			V r[8];
			for (int j = 0; j < 8; j++)
				r[j] = i + (uint32_t)j < until ? load(l + j * W) : none;
			V a = r[2] | r[3], b = r[6] | r[7], c = r[4] | r[5], all = r[0] | r[1] | a | b | c;
			plane[0] |= r[1] | r[3] | r[5] | r[7];
			plane[1] |= a | b;
			plane[2] |= b | c;
			if (i & 8)
				plane[3] |= all;
			if (i & 16)
				plane[4] |= all;
			if (i & 32)
				plane[5] |= all;
			in |= all;
		}
		store(page + (size_t)p * W, in);
	}
	return pages;
}
#undef M

INLINE void trees(const struct slice *s, int missing, int wide, uint32_t rows) {
	const picket_forest *f = s->f;
	uint8_t *page = s->reach + (size_t)f->reach * W;
	for (uint32_t i = 0; i < f->trees; i++) {
		const picket_slice_tree *t = &f->slice_trees[i];
		const uint32_t *mask = f->slice_mask + t->first, *side = f->slice_side + t->first;
		V plane[6];
		uint32_t pages = 1;
		switch (t->depth) {
		case 0:
			pages = any_shape(s, t, missing, plane, page);
			break;
		case 3:
			complete(s, mask, side, missing, 3, plane);
			break;
		case 4:
			complete(s, mask, side, missing, 4, plane);
			break;
		case 5:
			complete(s, mask, side, missing, 5, plane);
			break;
		default:
			complete(s, mask, side, missing, 6, plane);
			break;
		}
		add_leaves(s, t, plane, page, pages, wide, rows);
	}
}

// Functions of their own, because each is large.
static __attribute__((noinline)) void trees32(const struct slice *s, uint32_t rows) { trees(s, 0, 0, rows); }
static __attribute__((noinline)) void trees64(const struct slice *s, uint32_t rows) { trees(s, 0, 1, rows); }
static __attribute__((noinline)) void trees32_missing(const struct slice *s, uint32_t rows) { trees(s, 1, 0, rows); }
static __attribute__((noinline)) void trees64_missing(const struct slice *s, uint32_t rows) { trees(s, 1, 1, rows); }

// Writes for each row where its sum comes to lie, and then for each row in which byte of a register its bit is; bit r % 8 of
// that byte. Found by sending the numbers of the bits through the network.
void SLICE_ORDER(uint16_t *order) {
	uint8_t lines[6 * W] __attribute__((aligned(64))), table[64] __attribute__((aligned(64)));
	uint32_t sums[ROWS] __attribute__((aligned(64)));
	uint16_t number[ROWS] = {0};
	for (int i = 0; i < 64; i++)
		table[i] = (uint8_t)i;
	for (int part = 0; part < 2; part++) {
		memset(lines, 0, sizeof lines);
		for (int r = 0; r < ROWS; r++) {
			int v = part ? r >> 6 : r & 63;
			for (int b = 0; b < 6; b++)
				lines[b * W + r / 8] |= (uint8_t)((v >> b & 1) << (r % 8));
		}
		V plane[6], index[8];
		for (int b = 0; b < 6; b++)
			plane[b] = load(lines + b * W);
		transpose(plane, index);
		for (int i = 0; i < 8; i++) {
			V b = lookup(table, index[i]), z = b ^ b, lo = unpack8lo(b, z), hi = unpack8hi(b, z);
			uint8_t *to = (uint8_t *)sums + i * 4 * W;
			store(to, unpack16lo(lo, z));
			store(to + W, unpack16hi(lo, z));
			store(to + 2 * W, unpack16lo(hi, z));
			store(to + 3 * W, unpack16hi(hi, z));
		}
		for (int p = 0; p < ROWS; p++)
			number[p] |= (uint16_t)(sums[p] << (part ? 6 : 0));
	}
	// The groups of 8 rows that make the first register of leaf numbers come first, so that a few rows need only that.
	uint8_t place[ROWS / 8];
	int next[8] = {0};
	uint16_t sum_of[ROWS];
	for (int p = 0; p < ROWS; p++)
		sum_of[number[p]] = (uint16_t)p;
	for (int g = 0; g < ROWS / 8; g++) {
		int i = sum_of[8 * g] / W;
		place[i * (W / 8) + next[i]++] = (uint8_t)g;
	}
	for (int r = 0; r < ROWS; r++) {
		order[r] = sum_of[8 * place[r / 8] + r % 8];
		order[ROWS + r] = place[r / 8];
	}
}

// The order of doubles follows from that of floats: the halves of a register of floats become two registers, lane by lane.
INLINE uint32_t place64(uint32_t p) {
	uint32_t reg = p / (W / 4), lane = p % (W / 4) / 4, at = p % 4;
	return (2 * reg + at / 2) * (W / 8) + lane * 2 + at % 2;
}

void SLICE(const picket_forest *f, const float *in, size_t rows, void *out, uint8_t *scratch) {
	struct slice s = {.f = f};
	float *view = (float *)scratch;
	scratch += f->plain ? 0 : (((size_t)f->views * 4 * ROWS) + 63) / 64 * 64;
#ifdef COLUMNS
	float *column = (float *)scratch;
	scratch += (size_t)(f->plain ? f->features : f->views) * 64 * 4;
#endif
	s.ranks = scratch, scratch += (size_t)f->units * ROWS;
	s.missing = scratch, scratch += ((size_t)f->units + 1) * W;
	s.masks = scratch, scratch += (size_t)f->masks * W;
	s.sums = scratch, scratch += (size_t)f->groups * ROWS * 8;
	s.reach = scratch;
	memset(s.missing, 0, W);
	memset(s.ranks, 0, (size_t)f->units * ROWS);
	for (size_t from = 0; from < rows; from += ROWS) {
		uint32_t n = rows - from < ROWS ? (uint32_t)(rows - from) : ROWS;
		const float *v = picket_views(f, in + from * f->features, n, view);
		uint32_t width = f->plain ? f->features : f->views;
		const uint16_t *place = f->slice_order + ROWS;
		memset(s.missing + W, 0, (size_t)f->units * W);
		int missing = 0;
		// A few rows at a time, so that they stay in the nearest cache while every unit looks at them.
		for (uint32_t first = 0; first < n; first += 64) {
			uint32_t last = first + 64 < n ? first + 64 : n;
#ifdef COLUMNS
			columns(v + (size_t)first * width, width, last - first, column);
#endif
			for (uint32_t u = 0; u < f->units; u++) {
				uint8_t *ranks = s.ranks + (size_t)u * ROWS;
#ifdef COLUMNS
				ranks_of(f, u, column + (size_t)f->unit_view[u] * 64, last - first, ranks, place + first);
#else
				ranks_of(f, u, v + (size_t)first * width + f->unit_view[u], width, last - first, ranks, place + first);
#endif
			}
			for (uint32_t r = first; r < last; r++)
				for (uint32_t c = 0; c < width; c += 16) {
					uint32_t bits = missing_bits(v + (size_t)r * width + c, width - c);
					missing |= bits != 0;
					for (; bits; bits &= bits - 1) {
						uint32_t view = c + (uint32_t)__builtin_ctz(bits);
						for (uint32_t u = f->view_unit[view]; u < f->view_unit[view + 1]; u++)
							s.missing[((size_t)u + 1) * W + place[r]] |= (uint8_t)(1 << (r & 7));
					}
				}
		}
		for (uint32_t u = 0; u < f->units; u++)
			unit_masks(s.ranks + (size_t)u * ROWS, f->unit_size[u], s.masks + (size_t)f->unit_first[u] * W);
		for (uint32_t g = 0; g < f->groups; g++)
			for (uint32_t r = 0; r < ROWS; r++) {
				double base = f->base_last ? 0 : f->base[g];
				if (f->wide)
					((double *)s.sums)[(size_t)g * ROWS + r] = base;
				else
					((float *)s.sums)[(size_t)g * ROWS + r] = (float)base;
			}
		(missing ? f->wide ? trees64_missing : trees32_missing : f->wide ? trees64 : trees32)(&s, n);
		for (uint32_t g = 0; g < f->groups; g++) {
			float base = (float)f->base[g];
			for (uint32_t r = 0; r < n; r++) {
				size_t to = (from + r) * f->groups + g;
				if (f->wide)
					((double *)out)[to] = ((double *)s.sums)[(size_t)g * ROWS + place64(f->slice_order[r])];
				else {
					float sum = ((float *)s.sums)[(size_t)g * ROWS + f->slice_order[r]];
					((float *)out)[to] = f->base_last ? sum + base : sum;
				}
			}
		}
	}
}
