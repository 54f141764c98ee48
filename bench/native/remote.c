//go:build cgo && linux

#define _GNU_SOURCE
#include "remote.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// What a request begins with.
typedef struct {
  int64_t rows, run;
} head;

// Words that different sides write lie two cache lines apart, as processors fetch lines in pairs. The rows follow on a page of their own.
typedef struct {
  uint32_t asked;
  char apart[128 - sizeof(uint32_t)];
  uint32_t answered;
  char apart_too[128 - sizeof(uint32_t)];
  head head;
} control;

enum { largest_message = 64 << 10, page = 4096 };

struct remote {
  int socket;
  int64_t features, outputs;
  float *in, *out; // of the side that serves the socket
  control *control;
  float *shared_in, *shared_out;
  size_t mapped;
};

remote *remote_open(int socket, const char *path, int64_t rows, int64_t features, int64_t outputs) {
  remote *r = calloc(1, sizeof *r);
  size_t in = (sizeof(float) * rows * features + page - 1) / page * page, out = sizeof(float) * rows * outputs;
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (r == NULL || fd < 0 || ftruncate(fd, page + in + out) != 0)
    goto failed;
  *r = (remote){.socket = socket, .features = features, .outputs = outputs, .mapped = page + in + out};
  if ((r->control = mmap(NULL, r->mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0)) == MAP_FAILED)
    goto failed;
  r->shared_in = (float *)((char *)r->control + page);
  r->shared_out = (float *)((char *)r->shared_in + in);
  r->in = aligned_alloc(page, in);
  r->out = calloc(1, out);
  if (r->in == NULL || r->out == NULL) {
    remote_close(r);
    r = NULL;
    goto failed;
  }
  close(fd);
  return r;
failed:
  free(r);
  if (fd >= 0)
    close(fd);
  return NULL;
}

void remote_close(remote *r) {
  munmap(r->control, r->mapped);
  free(r->in);
  free(r->out);
  free(r);
}

static int answer(remote *r, peer *p, head h, const float *in, float *out) {
  return h.run == 0 || p->run(p, &(peer_rows){.single = in, .rows = h.rows}, out) >= 0;
}

// How long a side looks before it sleeps in the middle of a request, whose next piece comes after the time that a copy takes.
enum { look_ns = 25000 };

// What one call reads or writes, as read and write say it.
static ssize_t some(int socket, void *data, size_t size, int reads) {
  for (int64_t end = peer_now() + look_ns;;) {
    int flags = peer_now() < end ? MSG_DONTWAIT : 0;
    ssize_t n = reads ? recv(socket, data, size, flags) : send(socket, data, size < largest_message ? size : largest_message, flags | MSG_NOSIGNAL);
    if (n >= 0 || errno != EAGAIN || flags == 0)
      return n;
  }
}

int remote_serve_socket(remote *r, peer *p) {
  for (;;) {
    head h;
    ssize_t n = readv(r->socket, (struct iovec[]){{&h, sizeof h}, {r->in, largest_message}}, 2);
    if (n <= (ssize_t)sizeof h)
      return n != 0;
    size_t size = sizeof(float) * h.rows * r->features, came = n - sizeof h;
    for (; came < size; came += n)
      if ((n = some(r->socket, (char *)r->in + came, size - came, 1)) <= 0)
        return 1;
    size = sizeof(float) * h.rows * r->outputs;
    if (!answer(r, p, h, r->in, r->out) || write(r->socket, r->out, size) != (ssize_t)size)
      return 1;
  }
}

int64_t remote_ask_socket(remote *r, const float *in, int64_t rows, int run, float *out) {
  head h = {rows, run};
  size_t size = sizeof(float) * rows * r->features, sent = largest_message - sizeof h;
  ssize_t n, answers = sizeof(float) * rows * r->outputs;
  int64_t start = peer_now();
  if (sent > size)
    sent = size;
  if (writev(r->socket, (struct iovec[]){{&h, sizeof h}, {(void *)in, sent}}, 2) != (ssize_t)(sizeof h + sent))
    return -1;
  for (; sent < size; sent += n)
    if ((n = some(r->socket, (char *)in + sent, size - sent, 0)) <= 0)
      return -1;
  if (read(r->socket, out, answers) != answers)
    return -1;
  return peer_now() - start;
}

// Waits for so long at most, NULL for ever; 0 when that was in vain.
static int wait_for(uint32_t *word, uint32_t value, const struct timespec *most) {
  uint32_t now;
  while ((now = __atomic_load_n(word, __ATOMIC_ACQUIRE)) != value)
    if (syscall(SYS_futex, word, FUTEX_WAIT, now, most, NULL, 0) != 0 && errno == ETIMEDOUT)
      return 0;
  return 1;
}

static void post(uint32_t *word, uint32_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
  syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void remote_serve_memory(remote *r, peer *p) {
  for (uint32_t turn = 1;; turn++) {
    wait_for(&r->control->asked, turn, NULL);
    if (!answer(r, p, r->control->head, r->shared_in, r->shared_out))
      return;
    post(&r->control->answered, turn);
  }
}

int64_t remote_ask_memory(remote *r, const float *in, int64_t rows, int run, float *out) {
  uint32_t turn = r->control->answered + 1;
  int64_t start = peer_now();
  memcpy(r->shared_in, in, sizeof(float) * rows * r->features);
  r->control->head = (head){rows, run};
  post(&r->control->asked, turn);
  if (!wait_for(&r->control->answered, turn, &(struct timespec){.tv_sec = 10})) // the other side has ended
    return -1;
  memcpy(out, r->shared_out, sizeof(float) * rows * r->outputs);
  return peer_now() - start;
}
