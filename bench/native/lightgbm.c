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
  double *result; // of the last call
  int64_t room;   // rows that result holds
  int (*predict)(void *, const void *, int type, int32_t rows, int32_t columns, int major, int kind, int from, int iterations, const char *parameters,
                 int64_t *n, double *result);
  int (*predict_row)(void *, const void *, int64_t *n, double *result);
  int (*release)(void *), (*release_fast)(void *);
  const char *(*last_error)(void);
} lightgbm;

static int64_t run(peer *base, const peer_rows *r, float *out) {
  lightgbm *p = (lightgbm *)base;
  int64_t n = r->rows * base->outputs, answered = 0;
  if (r->rows > p->room) {
    free(p->result);
    p->result = malloc(sizeof *p->result * n);
    p->room = p->result != NULL ? r->rows : 0;
    if (p->result == NULL) {
      snprintf(base->problem, sizeof base->problem, "no memory for the answers");
      return -1;
    }
  }
  int64_t start = peer_now();
  int rc = r->rows == 1 ? p->predict_row(p->fast, r->single, &answered, p->result)
                        : p->predict(p->booster, r->single, floats, (int32_t)r->rows, (int32_t)base->features, row_major, normal, 0, all_iterations,
                                     p->parameters, &answered, p->result);
  int64_t took = peer_now() - start;
  if (rc != 0 || answered != n) {
    snprintf(base->problem, sizeof base->problem, "%s", rc != 0 ? p->last_error() : "it gives another number of answers");
    return -1;
  }
  for (int64_t i = 0; i < n; i++)
    out[i] = (float)p->result[i];
  return took;
}

static void release(peer *base) {
  lightgbm *p = (lightgbm *)base;
  if (p->fast != NULL)
    p->release_fast(p->fast);
  if (p->booster != NULL)
    p->release(p->booster);
  free(p->result);
  free(p);
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
  p->base = (peer){.run = run, .close = release, .features = features, .outputs = outputs};
  snprintf(p->parameters, sizeof p->parameters, "num_threads=%d", threads);
  int iterations;
  if (load(model, &iterations, &p->booster) != 0 ||
      prepare(p->booster, normal, 0, all_iterations, floats, (int32_t)features, p->parameters, &p->fast) != 0) {
    snprintf(problem, peer_problem_size, "%s", p->last_error());
    release(&p->base);
    return NULL;
  }
  return &p->base;
}
