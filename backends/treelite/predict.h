// The calls into a compiled tree model.

#ifndef PICKET_TREELITE_PREDICT_H
#define PICKET_TREELITE_PREDICT_H

#include <stddef.h>
#include <stdint.h>

// How a model's predict function answers.
enum {
  PICKET_SCALAR = 0, // T predict(entries, margin)
  PICKET_VECTOR = 1, // size_t predict_multiclass(entries, margin, T *result): how many it wrote
  PICKET_SUM = 2,    // void predict(entries, margin, T *result): adds into result
};

// A model, as much of it as a call needs. T is float, or double where wide.
typedef struct {
  void *predict;
  uint32_t features; // entries per row
  uint32_t classes;  // values that result has room for
  uint32_t width;    // values per row of the output, at most classes
  uint8_t form;      // one of the above
  uint8_t wide;      // T is double
  uint8_t wide_out;  // the output is double; only where wide
  uint8_t zeros;     // an exact zero is a missing value too
} picket_trees;

// Bytes of scratch memory a call needs; the caller provides them, aligned to 64.
size_t picket_trees_scratch(picket_trees trees);

// Predicts rows rows of trees.features floats each and writes trees.width values
// for each to out. in and out are aligned to their element. Returns 0, or the
// number, from 1, of the first row for which the model gave another number of
// values than trees.width.
size_t picket_trees_run(picket_trees trees, const void *in, void *out, void *scratch, size_t rows);

// Predicts one row in which every value is missing and returns how many values
// the model gave.
size_t picket_trees_width(picket_trees trees, void *scratch);

// The query functions of the libraries, called by address.
uint64_t picket_trees_size(void *query);              // size_t f(void)
int64_t picket_trees_int(void *query);                // int32_t f(void)
void picket_trees_ints(void *query, int32_t *result); // void f(int32_t *)
const char *picket_trees_text(void *query, size_t *length, size_t limit); // const char *f(void)

#endif
