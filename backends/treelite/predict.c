//go:build cgo && linux

#include "predict.h"

#include <string.h>

// An entry is a value or, all bits set, "missing". That pattern is a NaN, so no
// value is taken for missing by accident; other NaNs are made this one, because
// a model compares bits. Rows are always copied, even those without a NaN: models
// compiled with quantisation write the bin of each value over it, and the
// input is not ours to change. Both loops become vector code.

static inline __attribute__((always_inline)) void narrow_entries(uint32_t *to, const uint32_t *from, size_t n, int zeros) {
  for (size_t i = 0; i < n; i++) {
    uint32_t bits = from[i], magnitude = bits & 0x7fffffff;
    uint32_t missing = -(uint32_t)((int32_t)magnitude > 0x7f800000);
    if (zeros)
      missing |= -(uint32_t)(magnitude == 0);
    to[i] = bits | missing;
  }
}

static inline __attribute__((always_inline)) void wide_entries(uint64_t *to, const uint32_t *from, size_t n, int zeros) {
  for (size_t i = 0; i < n; i++) {
    uint32_t magnitude = from[i] & 0x7fffffff;
    int64_t missing = -(int64_t)((int32_t)magnitude > 0x7f800000);
    if (zeros)
      missing |= -(int64_t)(magnitude == 0);
    float value;
    memcpy(&value, &from[i], sizeof value);
    double widened = value;
    uint64_t bits;
    memcpy(&bits, &widened, sizeof bits);
    // All 64 bits: the first releases of the interface look at 32 of them for
    // float64 entries, later ones at all.
    to[i] = bits | (uint64_t)missing;
  }
}

static inline __attribute__((always_inline)) void entries(const picket_trees *t, void *to, const uint32_t *from) {
  if (t->wide) {
    if (t->zeros)
      wide_entries(to, from, t->features, 1);
    else
      wide_entries(to, from, t->features, 0);
  } else {
    if (t->zeros)
      narrow_entries(to, from, t->features, 1);
    else
      narrow_entries(to, from, t->features, 0);
  }
}

static inline size_t round64(size_t n) { return (n + 63) & ~(size_t)63; }

// Scratch memory holds the entries of a row, then a result.
static inline size_t entries_bytes(const picket_trees *t) { return round64((size_t)t->features * (t->wide ? 8 : 4)); }

size_t picket_trees_scratch(picket_trees t) { return entries_bytes(&t) + round64((size_t)t.classes * (t.wide ? 8 : 4)); }

// The answer of one row, in T, to result. Returns how many values.
static inline __attribute__((always_inline)) size_t answer(const picket_trees *t, void *row, void *result) {
  switch (t->form) {
  case PICKET_SCALAR:
    if (t->wide)
      *(double *)result = ((double (*)(void *, int))t->predict)(row, 0);
    else
      *(float *)result = ((float (*)(void *, int))t->predict)(row, 0);
    return 1;
  case PICKET_VECTOR:
    return ((size_t (*)(void *, int, void *))t->predict)(row, 0, result);
  default:
    memset(result, 0, (size_t)t->classes * (t->wide ? 8 : 4));
    ((void (*)(void *, int, void *))t->predict)(row, 0, result);
    return t->classes;
  }
}

size_t picket_trees_width(picket_trees t, void *scratch) {
  size_t first = entries_bytes(&t);
  memset(scratch, 0xff, first);
  return answer(&t, scratch, (char *)scratch + first);
}

size_t picket_trees_run(picket_trees t, const void *in, void *out, void *scratch, size_t rows) {
  const uint32_t *row = in;
  char *at = out;
  void *aside = (char *)scratch + entries_bytes(&t);
  size_t step = (size_t)t.width * (t.wide_out ? 8 : 4);
  // The model may write as many values as it has classes, of its own type. Where
  // the output has no room for that, they go through the scratch memory.
  int direct = t.width == t.classes && t.wide == t.wide_out;
  for (size_t r = 0; r < rows; r++, row += t.features, at += step) {
    void *result = direct ? (void *)at : aside;
    entries(&t, scratch, row);
    if (answer(&t, scratch, result) != t.width)
      return r + 1;
    if (direct)
      continue;
    if (t.wide == t.wide_out) {
      memcpy(at, result, step);
    } else {
      for (uint32_t i = 0; i < t.width; i++)
        ((float *)at)[i] = (float)((double *)result)[i];
    }
  }
  return 0;
}

uint64_t picket_trees_size(void *query) { return ((size_t (*)(void))query)(); }

int64_t picket_trees_int(void *query) { return ((int32_t (*)(void))query)(); }

void picket_trees_ints(void *query, int32_t *result) { ((void (*)(int32_t *))query)(result); }

const char *picket_trees_text(void *query, size_t *length, size_t limit) {
  const char *text = ((const char *(*)(void))query)();
  *length = text == NULL ? 0 : strnlen(text, limit);
  return text;
}
