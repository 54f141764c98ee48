// A tree model of each interface as small as can be, with one peculiarity at a
// time, chosen by the macros that the test defines. The answers are plain
// arithmetic on the entries, so that the test can tell them.

#include <stddef.h>
#include <stdint.h>

#ifndef T
#define T float
#define TYPE "float32"
#endif
#ifndef FEATURES
#define FEATURES 3
#endif
#ifndef CLASSES
#define CLASSES 1
#endif

union Entry {
  int missing;
  T fvalue;
  int qvalue;
};

// The first entry, or 1000 where it is missing, plus the second and third in the
// same way, weighted.
static T sum(union Entry *data, T bias) {
  T s = bias, weight = 1;
  for (int i = 0; i < 3; i++, weight /= 10)
    s += weight * (data[i].missing == -1 ? (T)1000 : data[i].fvalue);
#ifdef QUANTISED
  for (int i = 0; i < FEATURES; i++)
    data[i].qvalue = 7;
#endif
  return s;
}

const char *get_threshold_type(void) { return TYPE; }
#ifdef LEAF
const char *get_leaf_output_type(void) { return LEAF; }
#else
const char *get_leaf_output_type(void) { return TYPE; }
#endif

#if GENERATION == 2

int32_t get_num_feature(void) { return FEATURES; }
int32_t get_num_target(void) { return TARGETS; }
void get_num_class(int32_t *out) {
  for (int i = 0; i < TARGETS; i++)
    out[i] = CLASSES - i;
}
void predict(union Entry *data, int pred_margin, T *result) {
  T s = sum(data, 0);
  for (int i = 0; i < TARGETS * CLASSES; i++)
    result[i] += s + i;
}

#else

size_t get_num_feature(void) { return FEATURES; }
size_t get_num_class(void) { return CLASSES; }
const char *get_pred_transform(void) { return "identity"; }
float get_sigmoid_alpha(void) { return 1; }
float get_global_bias(void) { return 0; }
#if CLASSES == 1
T predict(union Entry *data, int pred_margin) { return sum(data, 0); }
#else
size_t predict_multiclass(union Entry *data, int pred_margin, T *result) {
  T s = sum(data, 0);
  for (int i = 0; i < CLASSES && i < 16; i++)
    result[i] = s + i;
#ifdef FICKLE
  return data[0].missing == -1 ? CLASSES : 1;
#elif defined(WINNER)
  return 1;
#else
  return CLASSES;
#endif
}
#endif

#endif
