// The forest on a GPU. Compiled to PTX by scripts/cuda-kernels.sh, and as plain C for the tests, which so hold its arithmetic against the
// libraries that trained the models on machines without any GPU. The few words in which the two differ come first.
//
// A thread adds up a row's leaves in the order of the trees, one rounding each, because that is what the trainers do: any other order has
// other last bits. So the rows are what there is to be parallel in, and many rows are what this is for. Where there are too few rows to
// fill the GPU, several threads (lanes) go down the trees of one row, and one of them adds up what all have found, in order.
//
// What it takes is loads, not arithmetic: a node for each level of each tree, and a value of the row. All threads of a block are at the
// same tree at about the same time, so the nodes come from the first-level cache; the rows are copied to shared memory, where any value of
// any row is there in the same time; their stride is odd, so that the same column of 32 rows lies in 32 banks. Some trees are gone down
// in step, so that what a level of one waits for is there when those of the others have been asked for.
//
// No multiplication is fused with an addition: the compilers are told so, and the host's code that this equals is, too.
#include "forest.h"

#if defined(__CUDA__)
#define INLINE static inline __attribute__((device, always_inline))
#define DEVICE __attribute__((device))
#define KERNEL(name) extern "C" __attribute__((global)) void name(const picket_run run)
#define BLOCK __nvvm_read_ptx_sreg_ctaid_x()
extern __attribute__((shared, device, aligned(16))) uint8_t shared[];
// Code between two meetings of a block's threads, t being the thread's number; and what a thread keeps from one to the next.
#define EACH_THREAD for (uint32_t t = __nvvm_read_ptx_sreg_tid_x(), once = 1; once; once = 0)
#define MEET __syncthreads()
#define PRIVATE(type, name) type name##_of[1]
#define MINE(name) name##_of[0]
#define SMALL _Pragma("unroll 1") // loops over groups
#define UNROLLED _Pragma("unroll")
#else
// A block's threads one after the other, from one meeting to the next.
#define INLINE static inline __attribute__((always_inline))
#define KERNEL(name) void name(const picket_run *launched, uint32_t block, uint8_t *shared)
#define run (*launched)
#define BLOCK block
#define EACH_THREAD for (uint32_t t = 0; t < PICKET_THREADS; t++)
#define MEET (void)0
#define PRIVATE(type, name) type name##_of[PICKET_THREADS]
#define MINE(name) name##_of[t]
#define SMALL
#define UNROLLED
#endif

// exp is e to the power x, in the steps of Exp in package ensemble and hence with the same bits.
INLINE double power(double rounded) {
	uint64_t bits;
	__builtin_memcpy(&bits, &rounded, sizeof bits);
	bits = (bits + 1023) << 52;
	__builtin_memcpy(&rounded, &bits, sizeof bits);
	return rounded;
}

INLINE double e_to(double x) {
	const double round = 0x1.8p52;
	x = x > 710 ? 710 : x;
	x = x < -746 ? -746 : x;
	double k = x * 1.44269504088896340735992468100189214 + round - round;
	double r = x - k * 6.93147180369123816490e-01 - k * 1.90821492927058770002e-10;
	double r2 = r * r, r4 = r2 * r2;
	double a = (1.0 / 2 + r * (1.0 / 6)) + r2 * (1.0 / 24 + r * (1.0 / 120));
	double b = (1.0 / 720 + r * (1.0 / 5040)) + r2 * (1.0 / 40320 + r * (1.0 / 362880));
	double c = (1.0 / 3628800 + r * (1.0 / 39916800)) + r2 * (1.0 / 479001600 + r * (1.0 / 6227020800));
	double p = 1 + (r + r2 * (a + r4 * (b + r4 * c)));
	double half = k * 0.5 + round, rest = k - (half - round) + round;
	return p * power(half) * power(rest);
}

INLINE float e_to32(float x) { return (float)e_to((double)x); }

// The transforms of floats, as XGBoost computes them. 88.7 is its own bound. The predictions may go where the margins are.
INLINE void finish32(const picket_run *r, float *row, float *out) {
	switch (r->transform) {
	case PICKET_IDENTITY:
		SMALL
		for (uint32_t g = 0; g < r->groups; g++)
			out[g] = row[g];
		break;
	case PICKET_SIGMOID:
		SMALL
		for (uint32_t g = 0; g < r->groups; g++) {
			float y = -row[g];
			y = y > 88.7f ? 88.7f : y;
			out[g] = 1 / (e_to32(y) + 1);
		}
		break;
	case PICKET_EXPONENTIAL:
		SMALL
		for (uint32_t g = 0; g < r->groups; g++)
			out[g] = e_to32(row[g]);
		break;
	case PICKET_SOFTMAX: {
		float top = row[0];
		SMALL
		for (uint32_t g = 1; g < r->groups; g++)
			top = row[g] > top || row[g] != row[g] ? row[g] : top;
		double sum = 0;
		SMALL
		for (uint32_t g = 0; g < r->groups; g++) {
			row[g] = e_to32(row[g] - top);
			sum += (double)row[g];
		}
		SMALL
		for (uint32_t g = 0; g < r->groups; g++)
			out[g] = row[g] / (float)sum;
		break;
	}
	}
}

// The transforms of doubles, as LightGBM computes them, and one rounding at the end.
INLINE void finish64(const picket_run *r, double *row, float *out) {
	switch (r->transform) {
	case PICKET_SIGMOID:
		SMALL
		for (uint32_t g = 0; g < r->groups; g++)
			row[g] = 1 / (1 + e_to(row[g] * -r->alpha));
		break;
	case PICKET_EXPONENTIAL:
		SMALL
		for (uint32_t g = 0; g < r->groups; g++)
			row[g] = e_to(row[g]);
		break;
	case PICKET_SOFTMAX: {
		double top = row[0], sum = 0;
		SMALL
		for (uint32_t g = 1; g < r->groups; g++)
			top = row[g] > top || row[g] != row[g] ? row[g] : top;
		SMALL
		for (uint32_t g = 0; g < r->groups; g++) {
			row[g] = e_to(row[g] - top);
			sum += row[g];
		}
		SMALL
		for (uint32_t g = 0; g < r->groups; g++)
			row[g] /= sum;
		break;
	}
	}
	SMALL
	for (uint32_t g = 0; g < r->groups; g++)
		out[g] = (float)row[g];
}

INLINE float low(picket_node n) {
	uint32_t bits = (uint32_t)n;
	float x;
	__builtin_memcpy(&x, &bits, sizeof x);
	return x;
}

// What a view makes of a column's value; 1e-35f is LightGBM's zero threshold.
INLINE float viewed(float x, uint8_t rule) {
	if (rule == PICKET_NONE_MISSING)
		return x != x ? 0 : x;
	if (rule == PICKET_ZERO_MISSING)
		return x >= -1e-35f && x <= 1e-35f ? __builtin_nanf("") : x;
	return x;
}

// Whether a split by set sends x right. LightGBM cuts towards zero what lies above -1, XGBoost knows categories up to 2^24.
INLINE uint32_t set_right(const uint32_t *words, uint32_t at, uint32_t link, float x) {
	uint32_t count = words[at], left = words[at + 1] & PICKET_SET_LEFT;
	if (left ? x > -1 && x < 2147483648.0f : x >= 0 && x < 16777216.0f) {
		uint32_t c = (uint32_t)x, in = c / 32 < count && (words[at + 2 + c / 32] >> (c % 32) & 1);
		return in ^ left;
	}
	if (!left && x != x)
		return link >> 31;
	return left;
}

// Takes a row down PICKET_STEP trees, of which those from trees on are not there, and leaves the leaves in n. A level's loads are asked for one
// after the other before any of them is looked at, first the row's values, then the nodes; a leaf is loaded
// again until the others have come to theirs, so that there is no branch.
INLINE void descend(const picket_run *r, const float *row, uint32_t apart, const uint32_t *tree, int sets, picket_node *n) {
	const picket_node *root[PICKET_STEP];
	uint32_t at[PICKET_STEP] = {0};
	UNROLLED
	for (int k = 0; k < PICKET_STEP; k++)
		root[k] = r->nodes + r->roots[tree[k] < r->trees ? tree[k] : 0];
	UNROLLED
	for (int k = 0; k < PICKET_STEP; k++)
		n[k] = *root[k];
	for (;;) {
		uint32_t child[PICKET_STEP], more = 0;
		float x[PICKET_STEP];
		UNROLLED
		for (int k = 0; k < PICKET_STEP; k++) {
			uint32_t link = (uint32_t)(n[k] >> 32);
			child[k] = link & PICKET_CHILD;
			more |= child[k];
			x[k] = row[(link >> PICKET_VIEW_SHIFT & PICKET_VIEW) * apart]; // of a leaf the first, for nothing
		}
		if (!more)
			return;
		UNROLLED
		for (int k = 0; k < PICKET_STEP; k++) {
			uint32_t link = (uint32_t)(n[k] >> 32), right;
			if (sets && link & PICKET_SET)
				right = set_right(r->words, (uint32_t)n[k], link, x[k]);
			else
				right = (x[k] >= low(n[k])) | ((x[k] != x[k]) & link >> 31);
			at[k] = child[k] ? child[k] + right : at[k];
			n[k] = root[k][at[k]];
		}
	}
}

// Copies the rows of a block to shared memory, as views.
INLINE void stage(const picket_run *r, uint32_t first, uint32_t rows, uint32_t t, float *to) {
	for (uint32_t i = t; i < rows * r->views; i += PICKET_THREADS) {
		uint32_t row = i / r->views, v = i % r->views;
		const float *from = r->in + (uint64_t)(first + row) * r->features;
		to[row * r->stride + v * r->apart] = r->plain ? from[v] : viewed(from[r->view_column[v]], r->view_rule[v]);
	}
}

#define VALUE float
#define LEAF(n) low(n)
#define FINISH(row, g) finish32(&run, (float *)run.margins + (uint64_t)(row)*run.groups, run.out + (uint64_t)(row)*run.groups)
#define NAME(name) name##_f32
#include "sum.inc.h"
#undef VALUE
#undef LEAF
#undef FINISH
#undef NAME

#define VALUE double
#define LEAF(n) run.leaves[(uint32_t)(n)]
#define FINISH(row, g) finish64(&run, (double *)run.margins + (uint64_t)(row)*run.groups, run.out + (uint64_t)(row)*run.groups)
#define NAME(name) name##_f64
#include "sum.inc.h"
