// The slice kernel, 8 * W rows at a time, written once for all instruction sets. Bit r of a register of W bytes is row r.
//
// For every distinct threshold there is one mask, of the rows that go right there; it is computed once, from the bits of
// the rows' ranks. A tree then selects among masks, level by level, which gives the bits of the rows' leaf numbers; eight
// of these registers are turned into bytes, and byte permutes bring the leaves. Whoever includes this has defined W, V,
// load, store, sel, unpack8lo ... unpack32hi, transpose, lookup, lookup_in, bits_of, ranks_of and spread; see vbmi_amd64.c.

enum { ROWS = W * 8 };

// What scratch memory is divided into.
struct slice {
	const picket_forest *f;
	uint8_t *ranks;   // units * ROWS
	uint8_t *missing; // a line for every unit
	uint8_t *masks;   // a unit's lines of rows that go right, by rank; then those in which the missing ones go right, too
	uint8_t *reach;   // line k: the rows that end in leaf k of a tree, counted from the left, or to the right of it
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

// Makes the masks of unit u. Line k is rank >= k.
static void unit_masks(const struct slice *s, uint32_t u, int missing) {
	const picket_forest *f = s->f;
	uint8_t *masks = s->masks + (size_t)f->unit_first[u] * W, *to = masks;
	V bit[8], low[16], high[17];
	bits_of(s->ranks + (size_t)u * ROWS, bit);
	thermometer(bit, low);
	thermometer(bit + 4, high);
	high[16] = (V){0};
	uint32_t h = 0, lines = f->unit_size[u] + 1;
	for (; 16 * (h + 1) <= lines; h++, to += 16 * W)
		for (int l = 0; l < 16; l++)
			store(to + l * W, high[h + 1] | (high[h] & low[l]));
	for (uint32_t l = 0; 16 * h + l < lines; l++, to += W)
		store(to, high[h + 1] | (high[h] & low[l]));
	if (!missing)
		return;
	V right = load(s->missing + (size_t)u * W);
	for (uint32_t i = f->unit_right[u]; i < f->unit_right[u + 1]; i++, to += W)
		store(to, load(masks + f->slice_right[i]) | right);
}

#define M(i) load(masks + mask[i])

INLINE V level1(const uint8_t *masks, const uint32_t *mask, const V *p, uint32_t i) { return sel(p[0], M(i), M(i + 1)); }
INLINE V level2(const uint8_t *masks, const uint32_t *mask, const V *p, uint32_t i) {
	V a = level1(masks, mask, p + 1, i), b = level1(masks, mask, p + 1, i + 2);
	return sel(p[0], a, b);
}
INLINE V level3(const uint8_t *masks, const uint32_t *mask, const V *p, uint32_t i) {
	V a = level2(masks, mask, p + 1, i), b = level2(masks, mask, p + 1, i + 4);
	return sel(p[0], a, b);
}
INLINE V level4(const uint8_t *masks, const uint32_t *mask, const V *p, uint32_t i) {
	V a = level3(masks, mask, p + 1, i), b = level3(masks, mask, p + 1, i + 8);
	return sel(p[0], a, b);
}
INLINE V level5(const uint8_t *masks, const uint32_t *mask, const V *p, uint32_t i) {
	V a = level4(masks, mask, p + 1, i), b = level4(masks, mask, p + 1, i + 16);
	return sel(p[0], a, b);
}

// The bits of the leaf numbers of a complete tree, the lowest first. Its nodes are in the order of a heap.
INLINE void complete(const uint8_t *masks, const uint32_t *mask, uint32_t depth, V *plane) {
	V p[6];
	p[0] = M(0);
	p[1] = level1(masks, mask, p, 1);
	p[2] = level2(masks, mask, p, 3);
	if (depth > 3)
		p[3] = level3(masks, mask, p, 7);
	if (depth > 4)
		p[4] = level4(masks, mask, p, 15);
	if (depth > 5)
		p[5] = level5(masks, mask, p, 31);
	for (uint32_t i = 0; i < 6; i++)
		plane[i] = i < depth ? p[depth - 1 - i] : (V){0};
}

// Fills reach. A node's leaves lie between two boundaries, and it puts one between them: a row is right of that if it is
// right of the upper one, or right of the lower one and goes right. Most nodes are done together with their two children,
// which saves loading what they have in common; then come those that are left, which have none.
INLINE const uint32_t *boundaries(const struct slice *s, const picket_slice_tree *t, const uint32_t *mask) {
	const uint8_t *masks = s->masks;
	const uint32_t *to = s->f->slice_to + t->to;
	uint8_t *reach = s->reach;
	V none = {0};
	store(reach, ~none);
	uint32_t last = (t->lines + 6) & ~7u; // that any_shape looks at
	store(reach + (size_t)t->lines * W, none);
	for (uint32_t k = t->lines + 1; k <= last; k++)
		store(reach + (size_t)k * W, none);
	for (uint32_t i = 0; i < t->threes; i++, mask += 3, to += 5) {
		V low = load(reach + to[0]), high = load(reach + to[1]);
		V here = high | (low & M(0));
		store(reach + to[2], here);
		store(reach + to[3], here | (low & M(1)));
		store(reach + to[4], high | (here & M(2)));
	}
	for (uint32_t i = 0; i < t->ones; i++, mask += 1, to += 3) {
		V low = load(reach + to[0]), high = load(reach + to[1]);
		store(reach + to[2], high | (low & M(0)));
	}
	return mask;
}

// The bits of the leaf numbers of a tree of any shape: bit b changes at every boundary that is a multiple of 2^b.
INLINE void any_shape(const struct slice *s, const picket_slice_tree *t, V *plane) {
	for (int i = 0; i < 6; i++)
		plane[i] = (V){0};
	for (uint32_t k = 8; k < t->lines + 7; k += 8) {
		const uint8_t *line = s->reach + (size_t)k * W;
		V r8 = load(line), a = load(line - 4 * W) ^ r8, b = xor3(a, load(line - 2 * W), load(line - 6 * W));
		V c = xor3(load(line - W), load(line - 3 * W), load(line - 5 * W));
		plane[0] ^= xor3(b, c, load(line - 7 * W));
		plane[1] ^= b;
		plane[2] ^= a;
		plane[3] ^= r8;
		if (k % 16 == 0)
			plane[4] ^= r8;
		if (k % 32 == 0)
			plane[5] ^= r8;
	}
}
#undef M

// The bytes of the leaves of W rows, byte by byte. Line p * apart of reach says which rows end in page p of 64 leaves, or
// right of it; i is which of their groups these rows are.
INLINE void leaf_bytes(const struct slice *s, const uint8_t *table, V index, uint32_t pages, uint32_t apart, uint32_t i, int bytes, V *b) {
	for (int j = 0; j < bytes; j++)
		b[j] = lookup(table + j * 64, index);
	for (uint32_t p = 1; p < pages; p++) {
		V in = spread(s->reach + (size_t)p * apart * W, i);
		table += bytes * 64;
		for (int j = 0; j < bytes; j++)
			b[j] = lookup_in(in, b[j], table + j * 64, index);
	}
}

// Adds the leaves of a tree to the sums of its group.
INLINE void add_leaves(const struct slice *s, const picket_slice_tree *t, const V *plane, uint32_t pages, uint32_t apart, int wide,
	uint32_t rows) {
	const uint8_t *table = s->f->slice_leaves + (size_t)t->table * 64;
	V index[8];
	transpose(plane, index);
	int bytes = wide ? 8 : 4;
	uint8_t *sums = s->sums + (size_t)t->group * ROWS * bytes;
	for (uint32_t i = 0; i * W < rows; i++, sums += bytes * W) {
		V b[8];
		leaf_bytes(s, table, index[i], pages, apart, i, bytes, b);
		if (wide) {
			V c[8] = {unpack8lo(b[0], b[1]), unpack8hi(b[0], b[1]), unpack8lo(b[2], b[3]), unpack8hi(b[2], b[3]),
				unpack8lo(b[4], b[5]), unpack8hi(b[4], b[5]), unpack8lo(b[6], b[7]), unpack8hi(b[6], b[7])};
			V low[4] = {unpack16lo(c[0], c[2]), unpack16hi(c[0], c[2]), unpack16lo(c[1], c[3]), unpack16hi(c[1], c[3])};
			V high[4] = {unpack16lo(c[4], c[6]), unpack16hi(c[4], c[6]), unpack16lo(c[5], c[7]), unpack16hi(c[5], c[7])};
			for (int j = 0; j < 4; j++) {
				add64(sums + 2 * j * W, unpack32lo(low[j], high[j]));
				add64(sums + (2 * j + 1) * W, unpack32hi(low[j], high[j]));
			}
		} else {
			V lo01 = unpack8lo(b[0], b[1]), hi01 = unpack8hi(b[0], b[1]), lo23 = unpack8lo(b[2], b[3]), hi23 = unpack8hi(b[2], b[3]);
			add32(sums, unpack16lo(lo01, lo23));
			add32(sums + W, unpack16hi(lo01, lo23));
			add32(sums + 2 * W, unpack16lo(hi01, hi23));
			add32(sums + 3 * W, unpack16hi(hi01, hi23));
		}
	}
}

INLINE void complete_any(const uint8_t *masks, const uint32_t *mask, uint32_t depth, V *plane) {
	switch (depth) {
	case 3:
		complete(masks, mask, 3, plane);
		break;
	case 4:
		complete(masks, mask, 4, plane);
		break;
	case 5:
		complete(masks, mask, 5, plane);
		break;
	default:
		complete(masks, mask, 6, plane);
		break;
	}
}

// mask is where every node's mask is.
INLINE void trees(const struct slice *s, const uint32_t *mask, int wide, uint32_t rows) {
	const picket_forest *f = s->f;
	for (uint32_t i = 0; i < f->trees; i++) {
		const picket_slice_tree *t = &f->slice_trees[i];
		const uint32_t *at = mask + t->first;
		V plane[6];
		if (t->lines > 1)
			at = boundaries(s, t, at);
		if (t->depth == 0) {
			any_shape(s, t, plane);
			if (t->lines <= 64)
				add_leaves(s, t, plane, 1, 64, wide, rows);
			else
				add_leaves(s, t, plane, (t->lines + 63) / 64, 64, wide, rows);
			continue;
		}
		complete_any(s->masks, at, t->depth, plane);
		if (t->lines == 1) {
			add_leaves(s, t, plane, 1, 1, wide, rows);
			continue;
		}
		for (uint32_t p = 1; p < t->lines; p++) {
			V in = load(s->reach + (size_t)p * W), more[6];
			complete(s->masks, at + 63 * (size_t)p, 6, more);
			for (int b = 0; b < 6; b++)
				plane[b] = sel(in, plane[b], more[b]);
		}
		add_leaves(s, t, plane, t->lines, 1, wide, rows);
	}
}

// Functions of their own, because each is large.
static __attribute__((noinline)) void trees32(const struct slice *s, const uint32_t *mask, uint32_t rows) { trees(s, mask, 0, rows); }
static __attribute__((noinline)) void trees64(const struct slice *s, const uint32_t *mask, uint32_t rows) { trees(s, mask, 1, rows); }

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

// Squares of four by four are turned in registers.
typedef float four __attribute__((vector_size(16)));
typedef float four_anywhere __attribute__((vector_size(16), aligned(4), may_alias));

// Columns of up to 64 rows, one after the other in memory, each with room for 64 values: gathering them from their rows
// costs more.
static inline void columns(const float *in, uint32_t width, uint32_t rows, float *to) {
	for (uint32_t r = 0; r < rows; r += 4) {
		const float *x = in + (size_t)r * width;
		uint32_t c = 0, last = rows - r < 4 ? rows - r : 4;
		if (last == 4)
			for (; c + 4 <= width; c += 4) {
				four v[4];
				for (int i = 0; i < 4; i++)
					v[i] = *(const four_anywhere *)(x + (size_t)i * width + c);
				four ab = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5), cd = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5);
				four ef = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7), gh = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
				float *at = to + (size_t)c * 64 + r;
				*(four *)at = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
				*(four *)(at + 64) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
				*(four *)(at + 128) = __builtin_shufflevector(ef, gh, 0, 1, 4, 5);
				*(four *)(at + 192) = __builtin_shufflevector(ef, gh, 2, 3, 6, 7);
			}
		for (; c < width; c++)
			for (uint32_t i = 0; i < last; i++)
				to[(size_t)c * 64 + r + i] = x[(size_t)i * width + c];
	}
}

// Sets all sums of a group to its base.
static void slice_begin(const struct slice *s) {
	const picket_forest *f = s->f;
	for (uint32_t g = 0; g < f->groups; g++) {
		double base = f->base_last ? 0 : f->base[g];
		double *wide = (double *)s->sums + (size_t)g * ROWS;
		float *narrow = (float *)s->sums + (size_t)g * ROWS, base32 = (float)base;
		if (f->wide)
			for (uint32_t r = 0; r < ROWS; r++)
				wide[r] = base;
		else
			for (uint32_t r = 0; r < ROWS; r++)
				narrow[r] = base32;
	}
}

// Writes the sums of n rows in the order of the rows.
static void slice_end(const struct slice *s, uint32_t n, void *out) {
	const picket_forest *f = s->f;
	const uint16_t *order = f->slice_order;
	for (uint32_t g = 0; g < f->groups; g++) {
		const double *wide = (const double *)s->sums + (size_t)g * ROWS;
		const float *narrow = (const float *)s->sums + (size_t)g * ROWS;
		float base = f->base_last ? (float)f->base[g] : 0;
		if (f->wide)
			for (uint32_t r = 0; r < n; r++)
				((double *)out)[(size_t)r * f->groups + g] = wide[place64(order[r])];
		else if (f->base_last)
			for (uint32_t r = 0; r < n; r++)
				((float *)out)[(size_t)r * f->groups + g] = narrow[order[r]] + base;
		else
			for (uint32_t r = 0; r < n; r++)
				((float *)out)[(size_t)r * f->groups + g] = narrow[order[r]];
	}
}

void SLICE(const picket_forest *f, const float *in, size_t rows, void *out, uint8_t *scratch) {
	struct slice s = {.f = f};
	uint32_t width = f->plain ? f->features : f->views;
	float *view = (float *)scratch;
	scratch += f->plain ? 0 : (((size_t)width * 4 * ROWS) + 63) / 64 * 64;
	float *column = (float *)scratch;
	scratch += (size_t)width * 64 * 4;
	s.ranks = scratch, scratch += (size_t)f->units * ROWS;
	s.missing = scratch, scratch += (size_t)f->units * W;
	s.masks = scratch, scratch += (size_t)f->masks * W;
	s.sums = scratch, scratch += (size_t)f->groups * ROWS * 8;
	s.reach = scratch;
	const uint16_t *place = f->slice_order + ROWS;
	for (size_t from = 0; from < rows; from += ROWS) {
		// What the last rows leave of a register is whatever was there, and its sums are thrown away.
		uint32_t n = rows - from < ROWS ? (uint32_t)(rows - from) : ROWS, missing = 0;
		const float *v = picket_views(f, in + from * f->features, n, view);
		// A few rows at a time, so that they stay in the nearest cache while every unit looks at them.
		for (uint32_t first = 0; first < n; first += 64) {
			uint32_t some = n - first < 64 ? n - first : 64;
			columns(v + (size_t)first * width, width, some, column);
			for (uint32_t u = 0; u < f->units; u++)
				missing |= ranks_of(f, u, column + (size_t)f->unit_view[u] * 64, some, s.ranks + (size_t)u * ROWS, s.missing + (size_t)u * W,
					place + first);
		}
		for (uint32_t u = 0; u < f->units; u++)
			unit_masks(&s, u, missing != 0);
		slice_begin(&s);
		(f->wide ? trees64 : trees32)(&s, missing ? f->slice_side : f->slice_mask, n);
		slice_end(&s, n, (uint8_t *)out + from * f->groups * (f->wide ? 8 : 4));
	}
}

#include "finish.inc.h"
