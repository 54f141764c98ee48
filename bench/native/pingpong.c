//go:build cgo && linux

#define _GNU_SOURCE
#include "pingpong.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct pingpong {
  uint32_t ping;
  char apart[252];
  uint32_t pong;
};

pingpong *pingpong_open(const char *path) {
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0)
    return NULL;
  void *p = ftruncate(fd, 4096) == 0 ? mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  close(fd);
  return p == MAP_FAILED ? NULL : p;
}

static void wait_for(uint32_t *word, uint32_t value) {
  uint32_t now;
  while ((now = __atomic_load_n(word, __ATOMIC_ACQUIRE)) != value)
    syscall(SYS_futex, word, FUTEX_WAIT, now, NULL, NULL, 0);
}

static void post(uint32_t *word, uint32_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
  syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void pingpong_serve(pingpong *p) {
  for (uint32_t turn = 1;; turn++) {
    wait_for(&p->ping, turn);
    post(&p->pong, turn);
  }
}

int64_t pingpong_call(pingpong *p) {
  struct timespec start, end;
  uint32_t turn = p->pong + 1;
  clock_gettime(CLOCK_MONOTONIC, &start);
  post(&p->ping, turn);
  wait_for(&p->pong, turn);
  clock_gettime(CLOCK_MONOTONIC, &end);
  return (int64_t)(end.tv_sec - start.tv_sec) * 1000000000 + (end.tv_nsec - start.tv_nsec);
}
