//go:build cgo && linux

// Treelite 4's own interpreter, GTIL, through Treelite's C API.

#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  peer base;
  void *model, *config;
  int wide; // whether the model takes and gives doubles, as LightGBM's do
  int (*predict)(void *model, const void *in, const char *type, uint64_t rows, void *out, void *config);
  int (*release)(void *), (*release_config)(void *);
  const char *(*last_error)(void);
} gtil;

static int64_t run(peer *base, const peer_rows *r, float *out) {
  gtil *p = (gtil *)base;
  double *result = p->wide ? peer_wide(base, r->rows) : NULL;
  if (p->wide && result == NULL)
    return -1;
  int64_t start = peer_now();
  int rc = p->wide ? p->predict(p->model, r->wide, "float64", (uint64_t)r->rows, result, p->config)
                   : p->predict(p->model, r->single, "float32", (uint64_t)r->rows, out, p->config);
  int64_t took = peer_now() - start;
  if (rc != 0) {
    snprintf(base->problem, sizeof base->problem, "%s", p->last_error());
    return -1;
  }
  if (p->wide)
    peer_narrow(base, r->rows, out);
  return took;
}

static void release(peer *base) {
  gtil *p = (gtil *)base;
  if (p->config != NULL)
    p->release_config(p->config);
  if (p->model != NULL)
    p->release(p->model);
}

peer *peer_open_gtil(const char *library, const char *model, int64_t features, int64_t outputs, int threads, char *problem) {
  int (*load)(const char *, const char *, void **), (*configure)(const char *, void **);
  size_t length = strlen(model);
  int lightgbm = length > 4 && strcmp(model + length - 4, ".txt") == 0;
  int json = length > 5 && strcmp(model + length - 5, ".json") == 0;
  const char *loader = lightgbm ? "TreeliteLoadLightGBMModel" : json ? "TreeliteLoadXGBoostModelJSON" : "TreeliteLoadXGBoostModelUBJSON";
  void *l = peer_library(library, problem);
  gtil *p = calloc(1, sizeof *p);
  if (l == NULL || p == NULL || !peer_symbol(l, loader, &load, problem) ||
      !peer_symbol(l, "TreeliteGTILParseConfig", &configure, problem) || !peer_symbol(l, "TreeliteGTILPredict", &p->predict, problem) ||
      !peer_symbol(l, "TreeliteFreeModel", &p->release, problem) || !peer_symbol(l, "TreeliteGTILDeleteConfig", &p->release_config, problem) ||
      !peer_symbol(l, "TreeliteGetLastError", &p->last_error, problem)) {
    free(p);
    return NULL;
  }
  p->base = (peer){.run = run, .release = release, .features = features, .outputs = outputs};
  p->wide = lightgbm;
  char config[64];
  snprintf(config, sizeof config, "{\"predict_type\":\"default\",\"nthread\":%d}", threads);
  if (load(model, "{}", &p->model) != 0 || configure(config, &p->config) != 0) {
    snprintf(problem, peer_problem_size, "%s", p->last_error());
    peer_close(&p->base);
    return NULL;
  }
  return &p->base;
}
