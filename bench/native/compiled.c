//go:build cgo && linux

// Libraries that a compiler of trees made of the model: called in a loop over the rows, as a C program would.

#include "loop.h"
#include "peer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef union {
  int32_t missing;
  float value;
} entry;

typedef union {
  int32_t missing;
  double value;
} wide_entry;

enum { max_features = 4096, max_outputs = 64 };

typedef struct {
  peer base;
  float (*predict)(entry *, int);                 // Treelite, one output
  size_t (*predict_multi)(entry *, int, float *); // Treelite, several
  void (*add)(entry *, int, float *);             // TL2cgen adds to the result
  void (*add_wide)(wide_entry *, int, double *);
  void (*forest)(double *, double *, int from, int to); // lleaves
} compiled;

// Without a branch per value, as a C program that minds its speed would: missing values come at random, and a slow yardstick
// would flatter the engine.
static inline void fill(entry *entries, const float *row, int64_t features) {
  for (int64_t i = 0; i < features; i++) {
    int32_t bits;
    memcpy(&bits, &row[i], sizeof bits);
    entries[i].missing = bits | -((bits & 0x7fffffff) > 0x7f800000);
  }
}

static int64_t run_treelite(peer *base, const peer_rows *r, float *out) {
  compiled *p = (compiled *)base;
  entry entries[max_features];
  if (p->predict != NULL)
    return bench_loop((void *)p->predict, r->single, r->rows, base->features, out);
  int64_t start = peer_now();
  for (int64_t i = 0; i < r->rows; i++) {
    fill(entries, r->single + i * base->features, base->features);
    p->predict_multi(entries, 0, out + i * base->outputs);
  }
  return peer_now() - start;
}

static int64_t run_tl2cgen(peer *base, const peer_rows *r, float *out) {
  compiled *p = (compiled *)base;
  entry entries[max_features];
  int64_t start = peer_now();
  memset(out, 0, sizeof *out * r->rows * base->outputs);
  for (int64_t i = 0; i < r->rows; i++) {
    fill(entries, r->single + i * base->features, base->features);
    p->add(entries, 0, out + i * base->outputs);
  }
  return peer_now() - start;
}

static int64_t run_tl2cgen_wide(peer *base, const peer_rows *r, float *out) {
  compiled *p = (compiled *)base;
  wide_entry entries[max_features];
  int64_t start = peer_now();
  for (int64_t i = 0; i < r->rows; i++) {
    const double *row = r->wide + i * base->features;
    for (int64_t f = 0; f < base->features; f++) {
      int64_t bits;
      memcpy(&bits, &row[f], sizeof bits);
      bits |= -((bits & INT64_MAX) > 0x7ff0000000000000);
      memcpy(&entries[f], &bits, sizeof bits);
    }
    double result[max_outputs] = {0};
    p->add_wide(entries, 0, result);
    for (int64_t o = 0; o < base->outputs; o++)
      out[i * base->outputs + o] = (float)result[o];
  }
  return peer_now() - start;
}

static int64_t run_lleaves(peer *base, const peer_rows *r, float *out) {
  compiled *p = (compiled *)base;
  double *result = peer_wide(base, r->rows);
  if (result == NULL)
    return -1;
  int64_t start = peer_now();
  p->forest((double *)r->wide, result, 0, (int)r->rows);
  int64_t took = peer_now() - start;
  peer_narrow(base, r->rows, out);
  return took;
}

// make gives a peer without its function; NULL after an error.
static compiled *make(int64_t (*run)(peer *, const peer_rows *, float *), int64_t features, int64_t outputs, char *problem) {
  if (features > max_features || outputs > max_outputs) {
    snprintf(problem, peer_problem_size, "more than %d features or %d outputs", max_features, max_outputs);
    return NULL;
  }
  compiled *p = calloc(1, sizeof *p);
  if (p != NULL)
    p->base = (peer){.run = run, .features = features, .outputs = outputs};
  return p;
}

peer *peer_open_treelite(const char *library, const char *model, int64_t features, int64_t outputs, int threads, char *problem) {
  void *l = peer_library(library, problem);
  compiled *p = l != NULL ? make(run_treelite, features, outputs, problem) : NULL;
  if (p == NULL)
    return NULL;
  int found = outputs == 1 ? peer_symbol(l, "predict", &p->predict, problem) : peer_symbol(l, "predict_multiclass", &p->predict_multi, problem);
  if (!found) {
    peer_close(&p->base);
    return NULL;
  }
  return &p->base;
}

peer *peer_open_tl2cgen(const char *library, const char *model, int64_t features, int64_t outputs, int threads, char *problem) {
  const char *(*type)(void);
  void *l = peer_library(library, problem);
  compiled *p = l != NULL ? make(run_tl2cgen, features, outputs, problem) : NULL;
  if (p == NULL)
    return NULL;
  if (!peer_symbol(l, "get_threshold_type", &type, problem) || !peer_symbol(l, "predict", &p->add, problem)) {
    peer_close(&p->base);
    return NULL;
  }
  if (strcmp(type(), "float64") == 0) {
    memcpy(&p->add_wide, &p->add, sizeof p->add_wide);
    p->base.run = run_tl2cgen_wide;
  }
  return &p->base;
}

peer *peer_open_lleaves(const char *library, const char *model, int64_t features, int64_t outputs, int threads, char *problem) {
  void *l = peer_library(library, problem);
  compiled *p = l != NULL ? make(run_lleaves, features, outputs, problem) : NULL;
  if (p == NULL)
    return NULL;
  if (!peer_symbol(l, "forest_root", &p->forest, problem)) {
    peer_close(&p->base);
    return NULL;
  }
  return &p->base;
}
