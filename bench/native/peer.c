//go:build cgo && linux

#include "peer.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int64_t peer_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void *peer_library(const char *path, char *problem) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL)
    snprintf(problem, peer_problem_size, "%s", dlerror());
  return library;
}

int peer_symbol(void *library, const char *name, void *address, char *problem) {
  void *symbol = dlsym(library, name);
  if (symbol == NULL) {
    snprintf(problem, peer_problem_size, "the library has no function %s", name);
    return 0;
  }
  memcpy(address, &symbol, sizeof symbol);
  return 1;
}

double *peer_wide(peer *p, int64_t rows) {
  int64_t n = rows * p->outputs;
  if (n > p->room) {
    free(p->wide);
    p->wide = malloc(sizeof *p->wide * n);
    p->room = p->wide != NULL ? n : 0;
    if (p->wide == NULL)
      snprintf(p->problem, sizeof p->problem, "no memory for the answers");
  }
  return p->wide;
}

void peer_narrow(const peer *p, int64_t rows, float *out) {
  for (int64_t i = 0; i < rows * p->outputs; i++)
    out[i] = (float)p->wide[i];
}

void peer_close(peer *p) {
  if (p->release != NULL)
    p->release(p);
  free(p->wide);
  free(p);
}
