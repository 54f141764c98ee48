//go:build cgo && linux

// LightGBM's C API: its interface for single rows for one row, the one for matrices for more.

#include "peer.h"

#include <stdio.h>
#include <stdlib.h>

enum { floats = 0, normal = 0, row_major = 1, all_iterations = -1 };

typedef struct {
  peer base;
  void *booster, *fast;
  char parameters[64];
  int (*predict)(void *, const void *, int type, int32_t rows, int32_t columns, int major, int kind, int from, int iterations, const char *parameters,
                 int64_t *n, double *result);
  int (*predict_row)(void *, const void *, int64_t *n, double *result);
  int (*release)(void *), (*release_fast)(void *);
  const char *(*last_error)(void);
} lightgbm;

static int64_t run(peer *base, const peer_rows *r, float *out) {
  lightgbm *p = (lightgbm *)base;
  int64_t answered = 0;
  double *result = peer_wide(base, r->rows);
  if (result == NULL)
    return -1;
  int64_t start = peer_now();
  int rc = r->rows == 1 ? p->predict_row(p->fast, r->single, &answered, result)
                        : p->predict(p->booster, r->single, floats, (int32_t)r->rows, (int32_t)base->features, row_major, normal, 0, all_iterations,
                                     p->parameters, &answered, result);
  int64_t took = peer_now() - start;
  if (rc != 0 || answered != r->rows * base->outputs) {
    snprintf(base->problem, sizeof base->problem, "%s", rc != 0 ? p->last_error() : "it gives another number of answers");
    return -1;
  }
  peer_narrow(base, r->rows, out);
  return took;
}

static void release(peer *base) {
  lightgbm *p = (lightgbm *)base;
  if (p->fast != NULL)
    p->release_fast(p->fast);
  if (p->booster != NULL)
    p->release(p->booster);
}

peer *peer_open_lightgbm(const char *library, const char *model, int64_t features, int64_t outputs, int threads, char *problem) {
  int (*load)(const char *, int *, void **), (*prepare)(void *, int kind, int from, int iterations, int type, int32_t columns, const char *, void **);
  void *l = peer_library(library, problem);
  lightgbm *p = calloc(1, sizeof *p);
  if (l == NULL || p == NULL || !peer_symbol(l, "LGBM_BoosterCreateFromModelfile", &load, problem) ||
      !peer_symbol(l, "LGBM_BoosterPredictForMat", &p->predict, problem) ||
      !peer_symbol(l, "LGBM_BoosterPredictForMatSingleRowFastInit", &prepare, problem) ||
      !peer_symbol(l, "LGBM_BoosterPredictForMatSingleRowFast", &p->predict_row, problem) ||
      !peer_symbol(l, "LGBM_FastConfigFree", &p->release_fast, problem) || !peer_symbol(l, "LGBM_BoosterFree", &p->release, problem) ||
      !peer_symbol(l, "LGBM_GetLastError", &p->last_error, problem)) {
    free(p);
    return NULL;
  }
  p->base = (peer){.run = run, .release = release, .features = features, .outputs = outputs};
  snprintf(p->parameters, sizeof p->parameters, "num_threads=%d", threads);
  int iterations;
  if (load(model, &iterations, &p->booster) != 0 ||
      prepare(p->booster, normal, 0, all_iterations, floats, (int32_t)features, p->parameters, &p->fast) != 0) {
    snprintf(problem, peer_problem_size, "%s", p->last_error());
    peer_close(&p->base);
    return NULL;
  }
  return &p->base;
}
