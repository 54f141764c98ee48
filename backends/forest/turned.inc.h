// Leaf numbers from their bits, for instruction sets that turn bit matrices. Whoever includes it has defined turn as in
// bytes.inc.h, and unpack8lo ... unpack32hi.

static inline void transpose(const V *p, V *index) {
	V z = p[0] ^ p[0];
	for (int i = 0; i < 2; i++) {
		V a = i ? unpack8hi(p[0], p[1]) : unpack8lo(p[0], p[1]);
		V b = i ? unpack8hi(p[2], p[3]) : unpack8lo(p[2], p[3]);
		V c = i ? unpack8hi(p[4], p[5]) : unpack8lo(p[4], p[5]);
		V ab0 = unpack16lo(a, b), ab1 = unpack16hi(a, b), c0 = unpack16lo(c, z), c1 = unpack16hi(c, z);
		index[4 * i + 0] = turn(unpack32lo(ab0, c0));
		index[4 * i + 1] = turn(unpack32hi(ab0, c0));
		index[4 * i + 2] = turn(unpack32lo(ab1, c1));
		index[4 * i + 3] = turn(unpack32hi(ab1, c1));
	}
}

// Bytes whose highest bit is set where the row of a byte of index[i] has its bit in line.
static inline V spread(const uint8_t *line, int i) {
	V l = load(line), z = l ^ l;
	V a = i & 4 ? unpack8hi(z, l) : unpack8lo(z, l);
	a = i & 2 ? unpack16hi(z, a) : unpack16lo(z, a);
	a = i & 1 ? unpack32hi(z, a) : unpack32lo(z, a);
	return turn(a);
}
