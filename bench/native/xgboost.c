//go:build cgo && linux

// XGBoost's C API: XGBoosterPredictFromDense, which reads the caller's rows in place.

#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  peer base;
  void *booster;
  int (*predict)(void *, const char *values, const char *config, void *meta, const uint64_t **shape, uint64_t *dimensions, const float **result);
  int (*release)(void *);
  const char *(*last_error)(void);
} xgboost;

static int64_t run(peer *base, const peer_rows *r, float *out) {
  xgboost *p = (xgboost *)base;
  char values[256];
  const uint64_t *shape;
  uint64_t dimensions;
  const float *result;
  int64_t start = peer_now();
  snprintf(values, sizeof values, "{\"data\":[%zu,true],\"shape\":[%lld,%lld],\"typestr\":\"<f4\",\"version\":3}", (size_t)r->single,
           (long long)r->rows, (long long)base->features);
  int rc = p->predict(p->booster, values,
                      "{\"type\":0,\"training\":false,\"iteration_begin\":0,\"iteration_end\":0,\"strict_shape\":false,\"missing\":NaN,\"cache_id\":0}",
                      NULL, &shape, &dimensions, &result);
  int64_t took = peer_now() - start;
  if (rc != 0) {
    snprintf(base->problem, sizeof base->problem, "%s", p->last_error());
    return -1;
  }
  memcpy(out, result, sizeof *out * r->rows * base->outputs);
  return took;
}

static void release(peer *base) {
  xgboost *p = (xgboost *)base;
  if (p->booster != NULL)
    p->release(p->booster);
}

peer *peer_open_xgboost(const char *library, const char *model, int64_t features, int64_t outputs, int threads, char *problem) {
  int (*create)(const void *, uint64_t, void **), (*load)(void *, const char *), (*set)(void *, const char *, const char *);
  void *l = peer_library(library, problem);
  xgboost *p = calloc(1, sizeof *p);
  if (l == NULL || p == NULL || !peer_symbol(l, "XGBoosterCreate", &create, problem) || !peer_symbol(l, "XGBoosterLoadModel", &load, problem) ||
      !peer_symbol(l, "XGBoosterSetParam", &set, problem) || !peer_symbol(l, "XGBoosterPredictFromDense", &p->predict, problem) ||
      !peer_symbol(l, "XGBoosterFree", &p->release, problem) || !peer_symbol(l, "XGBGetLastError", &p->last_error, problem)) {
    free(p);
    return NULL;
  }
  p->base = (peer){.run = run, .release = release, .features = features, .outputs = outputs};
  char count[16];
  snprintf(count, sizeof count, "%d", threads);
  if (create(NULL, 0, &p->booster) != 0 || load(p->booster, model) != 0 || set(p->booster, "nthread", count) != 0) {
    snprintf(problem, peer_problem_size, "%s", p->last_error());
    peer_close(&p->base);
    return NULL;
  }
  return &p->base;
}
