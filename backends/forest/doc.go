// Package forest is the backend that runs the file of a tree model itself, XGBoost's, LightGBM's or ONNX, with kernels for the
// processor it finds itself on.
//
// # What it opens
//
// A folder with one file that package ensemble reads and that starts like a model: XGBoost JSON, UBJSON or the old binary
// format (SageMaker's xgboost-model), LightGBM text, or ONNX, under any name. Of ONNX it takes graphs of one tree ensemble
// and serves the scores, not the labels, as package ensemble describes; what it does not support is engine.ErrUnsupported by
// name, so that another backend may run the file. Beside a compiled.so, it takes source_model.*, which `picket compile` puts
// there; compiled.meta then says which file that has to be, and the digest is checked. Nothing of the folder is executed, so
// an artifact compiled for another processor runs too.
//
// # What it answers
//
// One input, "data" FP32 [-1, features], and one output FP32 [-1, values], named as compiled.meta names them. Margins equal
// the trainer's bit for bit, with every kernel: XGBoost's are float32 sums in tree order, LightGBM's float64 sums in tree
// order, rounded to float32 after the transform. Transforms are computed in Go, with the arithmetic of package ensemble,
// within two units in the last place of the trainer's. So the same row has the same answer in any batch and on any host
// of one architecture. Every NaN is missing; what else is, the model says. Zero is a value, unless the model (LightGBM) says otherwise.
//
// # How it is fast
//
// Each column's distinct thresholds are sorted; a value's rank is how many of them are not above it, and every split becomes
// a comparison of a rank, a byte, with a byte. Columns of more than 255 thresholds are several units of 255. Finding a rank
// takes two vector comparisons: with 16 pivots, each the last of 16 thresholds, then with those 16. NaN has rank 0, which goes
// left everywhere; where missing values go right, splits look at a second copy of the ranks, in which it is 255.
//
// Few rows go to the row kernel, one at a time. All ranks sit in one register of 64 bytes (up to 32 units), two (64) or four
// (128). Of more units, missing values get their own: the thresholds of splits where they go right make units apart from the
// others, and no second copy is needed, so that four registers do for up to 256. A tree is cut into blocks of seven splits in
// three levels. The top blocks of eight trees are compared at once: 64 bytes say where the ranks lie, one byte permute brings
// them, one comparison gives a byte per tree, and a permute with a table of 128 bytes turns the bytes of 64 trees into their
// exits, 0 to 7. An exit leads to a line of 64 bytes that holds the next seven splits; four 16-byte loads fill a register
// again. In trees of four to six levels the line holds eight leaves, too. Patterns stay in registers then: eight pieces that
// are stored and then loaded as a whole have to reach the cache first, which doubles the time. In trees of any other
// shape, it holds where its exits lead, 16 bits each, and the leaves among these, as floats; of doubles, four. There, 256 trees
// make a list: first come the patterns of all its blocks, then where these lead, then those that have not ended make the next
// list. So many lines are on their way at a time and nothing waits for one of them.
//
// Many rows go to the slice kernel: bit r of a register is row r, 512 rows at once with AVX-512. Ranks are found for 16
// values at a time, by going down a heap of the column's thresholds that lies in up to 16 registers and is no deeper than
// it has to be, and turned into eight registers of bits. 16 masks of "low half at least l" and 17 of "high half at least h"
// give the mask of any threshold by one three-way operation and a store. Where values are missing, the thresholds whose
// splits send those to the right have a second mask, and the trees look there: they do nothing more than without.
// A complete tree of depth 6 loads its 63 masks, selects among them 57 times, and has the six bits of all 512 leaf numbers;
// 22 interleavings and eight bit-matrix products make bytes of them, and for each 64 rows four byte permutes fetch the four
// bytes of the leaves, eight interleavings join them, and four additions follow. A deeper one, up to 10, is several of these.
// Of a tree of any other shape the leaves are counted from the left, and every split is the boundary between two of them:
// the rows on its right are those right of the next boundary above that bounds it from the right, and of those right of the
// one that bounds it from the left the ones that it sends right. That is one three-way operation and a store, and two levels
// are done at a time. Bit b of a leaf's number changes at every boundary that is a multiple of 2^b, so the bits are sums
// modulo 2, about one operation a leaf. Trees of more than 64 leaves fetch their leaves page by page.
//
// Batches end with the transform, in vectors where it is a sigmoid, an exponential or a softmax: by additions and
// multiplications in an order that is laid down (ensemble.Exp), so that the bits are the same with every instruction set.
//
// Batches that take long enough are shared among as many threads as the model's options allow, if the process has cores
// to spare: all models share one count of them. Threads take whole parts of 512 rows until none are left, large ones first.
//
// # What bounds it
//
// Counted for a model of 500 trees of depth 6 over 30 columns with 5,088 thresholds, and timed kernel alone, shortest of
// many runs, on a core of a Zen 5 EPYC at 3.8 GHz that others used too:
//
//   - One row, 0.51 us, or 1,940 cycles: 0.07 us to find the ranks, 0.06 for the top blocks, the rest for the second blocks
//     and the sum. Eight second blocks are 53 instructions, eight additions 29, with some 15 to tell whether the eight trees
//     belong to one sum; the top blocks of 64 trees are 54, and their offsets 40: about 14 a tree, and 38 for a column's
//     rank. Stepping through one row counts 9,300, which at eight a cycle are 1,170 cycles. Exact sums keep the
//     order, so the additions wait for each other, 2 cycles each: 1,000 cycles, too, but strewn among the work on the next
//     64 trees. What bounds it is the lines it reads: 16 bytes of the top and a line of 64 bytes a tree, two lines a column,
//     685 in all, 43 KB, most of them from the second-level cache. At a line in 2 cycles that is 1,370, so that it is within
//     1.5 times of that bound. When other work has taken both caches meanwhile, it takes 1.2 to 2.2 us, from the third-level
//     cache. Fetching the second blocks of the next 64 trees ahead gained a fifth to a half there, but lost about 5% with warm
//     caches, and 25% with 5,000 trees; pages of 2 MiB made no difference that could be told from the noise.
//   - 512 rows, 0.072 us a row from Run to answer: about 0.043 for the trees, 0.017 for the ranks, 0.007 for the masks, 0.004
//     for turning rows into columns and sums into rows, and 0.002 for the sigmoid. All of it is 365,000 instructions, 92,000
//     of them for the ranks and 26,000 for the masks. A tree is 409 for 512 rows: 62 loads of offsets, 90 to load masks and
//     select, as about half of the masks are operands of the 57 selections, 30 to make bytes, 160 to fetch and add the leaves,
//     the rest to find its tables and to go on. It reads 63 lines of masks, 4 KB, which come from the second-level cache, as
//     all masks are 319 KB: at a line in 2 cycles that is 126 of the 170 cycles it takes, so that it is within 1.4 times of
//     that bound.
//
// Trees of any shape take the row kernel about 30 instructions a block: 36 for the patterns of eight, and 25 for each to find
// where it leads and to keep the lists. LightGBM's trees of 63 leaves are two blocks to go through, 300 of them 17,000 instructions
// and 1.1 to 1.3 us; 1,000 trees of depth 8 over 100 columns, of whose 4 MB of tables a row looks at 3,000 blocks, are 91,000
// instructions and 8 us, 7 if its blocks are in the second-level cache.
//
// What remains goes to the walk: models with splits by set, those whose ranks do not fit four registers, those with trees so
// large (about 128 KB of blocks) that 16 bits do not reach from a block to the next, and processors without any of the
// instruction sets. Its trees are cut into blocks of three levels, too, of a cache line each: seven splits of a key and a slot. A
// key is an integer in the order of the floats; a row is laid out twice, with the least integer for missing values and with
// the greatest, so that a level is two loads and a comparison. Eight trees go down in step, without branches, because the
// processor's schedulers are full before its window is, where one tree's levels wait for each other. Those that have not
// ended make the next list. That takes 60 instructions a block, 500 trees of depth 6 3.7 us. A split by set is a block of its
// own. Of several rows, up to eight go through 128 trees before the next ones are fetched.
//
// Which kernel is best for how many rows depends on the model and the host, so Open measures: the row kernel against the
// plain one, and the number of rows from which the slice kernel is faster.
//
// # Instruction sets
//
// The same two kernels, row.inc.h and slice.inc.h, are compiled for AVX-512 with VBMI and GFNI, for AVX-512 BW, for AVX2 and
// for NEON, all in one program; the host description (and with it PICKET_CPU_MASK) decides at load. Programs without C
// walk the same blocks in Go. All are tested against a slow and simple reference.
//
// One NEON kernel serves Arm processors with dot products (Graviton 2 and later) and without. The only sums of products in it
// are the patterns of blocks, bits weighed and added up; there SDOT takes five instructions where AND and ADDP take four
// (neon_arm64.c). The rest is comparisons, table look-ups, interleaving, shifts and additions of floats.
//
// # What is left to the backend of compiled trees
//
// Models that package ensemble does not read.
package forest
