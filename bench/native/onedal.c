//go:build cgo && linux

// oneDAL, through the library that bench/peers/prepare.sh compiles of bench/peers/onedal/onedal.cc, which is C++.

#include "peer.h"

#include <stdlib.h>

typedef struct {
  peer base;
  void *forest;
  int64_t (*predict)(void *, const float *rows, int64_t count, float *out, char *problem, size_t size);
  void (*release)(void *);
} onedal;

static int64_t run(peer *base, const peer_rows *r, float *out) {
  onedal *p = (onedal *)base;
  return p->predict(p->forest, r->single, r->rows, out, base->problem, sizeof base->problem);
}

static void release(peer *base) {
  onedal *p = (onedal *)base;
  p->release(p->forest);
}

peer *peer_open_onedal(const char *library, const char *model, int64_t features, int64_t outputs, int threads, char *problem) {
  void *(*open)(const char *, int64_t, int64_t, int, char *, size_t);
  void *l = peer_library(library, problem);
  onedal *p = calloc(1, sizeof *p);
  if (l == NULL || p == NULL || !peer_symbol(l, "picket_onedal_open", &open, problem) ||
      !peer_symbol(l, "picket_onedal_predict", &p->predict, problem) || !peer_symbol(l, "picket_onedal_close", &p->release, problem) ||
      (p->forest = open(model, features, outputs, threads, problem, peer_problem_size)) == NULL) {
    free(p);
    return NULL;
  }
  p->base = (peer){.run = run, .release = release, .features = features, .outputs = outputs};
  return &p->base;
}
