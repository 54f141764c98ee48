//go:build cgo && linux

#include "peer.h"

#include <dlfcn.h>
#include <stdio.h>
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
