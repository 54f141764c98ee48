// What Go prepares of a model and the kernels read. All memory that is pointed to lies outside the Go heap, belongs to
// the model, is aligned to 64 bytes and never changes while a kernel can run.
#ifndef PICKET_FOREST_H
#define PICKET_FOREST_H

#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

// A split sends a row right if the key of its slot is at least key. Keys are integers in the order of the floats that they
// stand for.
typedef struct {
	int32_t key;
	uint32_t slot; // 2 * view, and 1 more where missing values go right
} picket_split;

// A block of the walk layout, which every model has: see block in layout_walk.go.
typedef struct {
	picket_split split[7];
	uint32_t to[2]; // first child and first leaf
} picket_block;

// Bits of slots, and of the exits above them.
enum {
	PICKET_SET = 1u << 31,         // the block is a split by set
	PICKET_SET_LEFT = 1u << 30,    // a category in the set goes left, else it goes right
	PICKET_SET_MISSING = 1u << 29, // missing goes right
	PICKET_SLOT_BITS = 24,
};

// What a view makes of a column: the value, with NaN where it is missing.
enum { PICKET_NAN_MISSING, PICKET_NONE_MISSING, PICKET_ZERO_MISSING };

// How many floats a unit's thresholds take: 16 pivots and 16 times 16 thresholds, NaN where there is none.
enum { PICKET_UNIT = 16 + 256 };

// A block of the row layout, in bytes: 8 slots and 8 ranks, of which the last mean nothing, 8 exits of 16 bits, and its
// leaves. An exit is the distance from the block to a child or, with the highest bit, to a leaf, in units of four bytes.
// A block that has no room for all of its leaves takes two lines.
enum { PICKET_BLOCK_EXITS = 16 };

// Of what leads on: the rest is where a leaf lies. Otherwise it is where a block lies.
#define PICKET_LEAF 0x80000000u

// One tree of the slice layout: a tree of any shape; or a complete one; or one of any shape with complete trees of depth 6
// instead of leaves.
typedef struct {
	uint32_t depth; // of the complete trees, 3 to 6; 0: there are none
	uint32_t lines; // leaves of the tree of any shape; 1: there is no such tree
	uint32_t threes, ones; // its splits with both children, and alone
	uint32_t first; // of its nodes in slice_mask and slice_side, first those of any shape: 3 or 1 each
	uint32_t to;    // of its nodes in slice_to
	uint32_t table; // first 64-byte line of its leaves
	uint32_t group;
} picket_slice_tree;

typedef struct {
	uint32_t features, groups, trees;
	uint32_t wide;      // leaves, base and sums are double, not float
	uint32_t base_last; // the base is added after the trees
	const double *base;
	const uint32_t *group_first; // groups + 1; the trees of a group lie side by side, in their order

	// Views: the row as the nodes see it. With plain set, views are the columns themselves.
	uint32_t plain, views;
	const uint32_t *view_column;
	const uint8_t *view_rule;

	// The walk layout.
	uint32_t sets; // there are splits by set
	const picket_block *walk_blocks;
	const uint32_t *roots; // of the trees: number of a block, or leaf
	const uint32_t *words; // of the sets
	const float *leaves32;
	const double *leaves64;

	// Units: at most 255 thresholds of a view. rank(x) is how many of them are <= x, and 0 of a missing value.
	uint32_t units;
	const uint32_t *unit_view, *unit_size;
	const float *thresholds; // units * PICKET_UNIT
	const float *search;     // units * 256: a unit's thresholds as a heap, the root in place 1
	const uint8_t *levels;   // of a unit's heap, 4 to 8

	// The row layout: the ranks of a row lie in at most 4 registers of 64 bytes, and slots are places in them. They are those
	// of row_units, and from row_copies on the same once more with 255 for missing values, which may be behind the registers.
	uint32_t row_registers; // 1, 2 or 4; 0: there is no row layout
	uint32_t row_units, row_copies;
	const uint32_t *row_unit_view;
	const uint8_t *row_unit_missing; // rank of a missing value: 0 or 255
	const float *row_thresholds;     // row_units * PICKET_UNIT
	const uint8_t *top_slots, *top_ranks; // 8 bytes a tree, for a multiple of 64 trees
	const uint32_t *top_exits;            // 8 a tree, unless row_two: units of four bytes from blocks on, or leaf
	uint32_t row_two;       // every tree is two blocks deep, and the second have leaves instead of exits
	uint32_t row_stride;    // bytes of a second block then
	const uint8_t *blocks;

	// The slice layout: rows in the bits of registers of slice_width bytes.
	uint32_t slice_width; // 0: there is no slice layout
	uint32_t masks;       // lines, of all units
	const uint32_t *unit_first;        // line of rank >= 0 of a unit
	const uint32_t *unit_right;        // units + 1: first of a unit's in slice_right
	const uint32_t *slice_right;       // offset of a mask in its unit that is needed with the missing ones, too
	const picket_slice_tree *slice_trees;
	const uint32_t *slice_mask;        // of a node: offset of its mask
	const uint32_t *slice_side;        // the same where values are missing
	const uint32_t *slice_to;          // of a node of any shape: offsets of lines, lower, upper, own (3 of them or one)
	const uint16_t *slice_order;       // of each row: its place among the sums; then of each row: the byte that its bit is in
	const uint8_t *slice_leaves;       // tables of 64 bytes: byte 0 of 64 leaves, byte 1, ...
} picket_forest;

// A number of the model, where it decides which code runs. An artifact, which is compiled for one model, defines it as that
// number, so that only what the model takes is compiled.
#ifndef PICKET_KNOWN
#define PICKET_KNOWN(f, field) ((f)->field)
#endif

// A kernel writes rows * groups margins to out, float or double (wide), and reads rows * features floats.
typedef void picket_kernel(const picket_forest *f, const float *in, size_t rows, void *out, uint8_t *scratch);

// Prepares rows as views where they are not the columns themselves.
const float *picket_views(const picket_forest *f, const float *in, size_t rows, float *to);

// How many rows kernels look at together, at most.
enum { PICKET_MOST_ROWS = 512 };

// What the row kernel takes of scratch memory beside views, ranks and a byte a tree.
enum { PICKET_ROW_TREES = 256, PICKET_ROW_SCRATCH = 16 * PICKET_ROW_TREES };

// How many rows the walk takes through some trees before it goes on to the next.
enum { PICKET_WALK_ROWS = 8 };

picket_kernel picket_walk;
picket_kernel picket_row_vbmi, picket_slice_vbmi;
picket_kernel picket_row_bw, picket_slice_bw;
picket_kernel picket_row_avx2, picket_slice_avx2;
picket_kernel picket_row_neon, picket_slice_neon;

void picket_order_vbmi(uint16_t *order), picket_order_bw(uint16_t *order), picket_order_avx2(uint16_t *order), picket_order_neon(uint16_t *order);

// What finishing does to margins. Sums of a row's groups, rows * groups of them.
enum { PICKET_IDENTITY, PICKET_SIGMOID, PICKET_EXPONENTIAL, PICKET_SOFTMAX };
typedef struct {
	uint32_t transform, groups;
	uint32_t wide; // margins are double, and change; else they are float, and become the predictions
	double alpha;  // factor of wide margins under a sigmoid
} picket_finish;

typedef void picket_finisher(const picket_finish *how, void *margins, size_t rows, float *out);
picket_finisher picket_finish_vbmi, picket_finish_bw, picket_finish_avx2, picket_finish_neon;

// One family of kernels for one instruction set; they are numbered as Go numbers them.
enum { PICKET_WALK, PICKET_VBMI, PICKET_BW, PICKET_AVX2, PICKET_NEON };

// Runs the row kernel of a family, its slice kernel, or, where the family is PICKET_WALK, the plain one.
void picket_forest_run(const picket_forest *f, int family, int slice, const float *in, size_t rows, void *out, uint8_t *scratch);

// Turns margins into predictions with the code of a family, and says whether it has any: PICKET_WALK has none.
int picket_forest_finish(int family, uint32_t transform, uint32_t groups, uint32_t wide, double alpha, void *margins, size_t rows, float *out);

// Writes the order of the rows of a family's slice kernel.
void picket_forest_order(int family, uint16_t *order);

// Shortest time of several runs in nanoseconds.
uint64_t picket_forest_time(const picket_forest *f, int family, int slice, const float *in, size_t rows, void *out, uint8_t *scratch,
	int runs);

#endif
