// What the host prepares for the kernels of forest.cu. The same text is read by the compiler of the kernels, by that of the tests, which
// run them on the processor, and by people; layout.go and run.go write these bytes.
#ifndef PICKET_CUDA_FOREST_H
#define PICKET_CUDA_FOREST_H

#include <stdint.h>

// A node is 8 bytes, so that one load brings all of it: in the low half the threshold, the leaf's value or, where leaves are doubles, its
// number; in the high half the link below. A set has in the low half where it starts in words: how many words, flags, the words.
typedef uint64_t picket_node;

// A link: the left child's place in its tree (0 in a leaf: the root is nobody's child), the view, and two flags.
enum {
	PICKET_CHILD = 0xffff,
	PICKET_VIEW_SHIFT = 16,
	PICKET_VIEW = 0x3fff,
};
#define PICKET_SET 0x40000000u           // a split by set
#define PICKET_MISSING_RIGHT 0x80000000u // missing values go right

// Flags of a set.
enum { PICKET_SET_LEFT = 1 }; // a category in the set goes left, else it goes right

// What a view makes of a column: the value, with NaN where it is missing.
enum { PICKET_NAN_MISSING, PICKET_NONE_MISSING, PICKET_ZERO_MISSING };

// What the kernel makes of margins. PICKET_MARGINS leaves them to the host.
enum { PICKET_MARGINS, PICKET_IDENTITY, PICKET_SIGMOID, PICKET_EXPONENTIAL, PICKET_SOFTMAX };

// Threads of a block.
enum { PICKET_THREADS = 256 };

// How many trees a thread goes down in step.
enum { PICKET_STEP = 4 };

// How many leaves of other lanes are loaded before they are added up.
enum { PICKET_AHEAD = 8 };

// One run. It is the kernels' only parameter.
typedef struct {
	// The model: nodes of all trees; where each tree starts; sets; leaves that are doubles.
	const picket_node *nodes;
	const uint32_t *roots;
	const uint32_t *words;
	const double *leaves;
	const double *base;          // a group's
	const uint32_t *group_first; // groups + 1; the trees of a group lie side by side, in their order
	const uint32_t *view_column;
	const uint8_t *view_rule;
	double alpha; // factor of a sigmoid of doubles
	uint32_t features, views, groups, trees;
	uint32_t plain;     // views are the columns
	uint32_t base_last; // the base is added after the trees
	uint32_t transform;
	// The rows. Margins are rows * groups of float or double; the predictions, floats, may lie in their place unless they are doubles. The rows may lie in
	// pinned main memory, of which each value is read once where they are staged, and so may what comes back: out, or margins where they are for the host.
	uint32_t rows;
	const float *in;
	void *margins;
	float *out;
	// How a block is used: block_rows * lanes threads, of which lanes look at the same row; block_rows is 1 << row_bits. With staged, the rows'
	// views are copied to shared memory first, at stride floats from one row to the next and at apart from one view to the next.
	uint32_t block_rows, lanes, row_bits;
	uint32_t staged, stride, apart; // staged is how many bytes the views take, 0 where they are not copied
} picket_run;

#endif
