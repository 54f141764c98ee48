// What the patterns of the row kernel mean; see row.inc.h.

// Exits of a block by its pattern.
static const uint8_t exit_of[256] __attribute__((aligned(64))) = {
#define E1(p) (4 * ((p) & 1) + 2 * ((p) >> (1 + ((p) & 1)) & 1) + ((p) >> (3 + 2 * ((p) & 1) + ((p) >> (1 + ((p) & 1)) & 1)) & 1))
#define E2(p) E1(p), E1(p + 1), E1(p + 2), E1(p + 3)
#define E3(p) E2(p), E2(p + 4), E2(p + 8), E2(p + 12)
#define E4(p) E3(p), E3(p + 16), E3(p + 32), E3(p + 48)
	E4(0), E4(64), E4(128), E4(192),
};
