// What instruction sets without byte permutes or bit matrices share. Whoever includes it has defined W, V, load and store.

#include "exits.inc.h"

// The exits of W blocks from their patterns: 4 times bit 0, 2 times bit 1 or 2, and the bit below that.
typedef uint8_t bytes __attribute__((vector_size(W), may_alias));

static inline bytes exits_of(bytes p) {
	bytes first = p & 1, right = -first;            // all ones where the root goes right
	bytes second = (((p >> 2) & right) | ((p >> 1) & ~right)) & 1;
	bytes rest = ((p >> 5) & right) | ((p >> 3) & ~right);
	bytes deep = -second;
	bytes third = ((rest >> 1) & deep) | (rest & ~deep);
	return first << 2 | second << 1 | (third & 1);
}

// The bits of the eight bytes of every 64-bit lane, turned over the diagonal: bit i of byte j becomes bit j of byte i.
static inline V turn(V x) {
	V t = (x ^ (x >> 7)) & 0x00aa00aa00aa00aa;
	x ^= t ^ (t << 7);
	t = (x ^ (x >> 14)) & 0x0000cccc0000cccc;
	x ^= t ^ (t << 14);
	t = (x ^ (x >> 28)) & 0x00000000f0f0f0f0;
	return x ^ t ^ (t << 28);
}
