//go:build cgo && linux

#define _GNU_SOURCE
#include "lane.h"

#include <fcntl.h>
#include <math.h>

#include "picket_lane.h"

enum { connect_patience = 30000, most_unlooked = 64 };

struct lane_caller {
  struct picket_lane *lane;
  struct picket_lane_model model;
  int connection; // a descriptor of its own for lane_stop; -1 for none
  int stopped;
  uint32_t rows, row_bytes;
  uint64_t random;
  const char *problem; // what went wrong last, or NULL
  float answers[];
};

int64_t lane_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// A number below n, from the generator splitmix64.
static uint64_t below(lane_caller *c, uint64_t n) {
  uint64_t z = c->random += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return (uint64_t)(((unsigned __int128)(z ^ (z >> 31)) * n) >> 64);
}

lane_caller *lane_connect(const char *socket, const char *model, int ring, uint32_t rows, uint32_t row_bytes, uint64_t seed) {
  lane_caller *c = calloc(1, sizeof(*c) + rows * sizeof(float));
  if (!c)
    return NULL;
  c->rows = rows;
  c->row_bytes = row_bytes;
  c->random = seed;
  c->connection = -1;
  c->lane = picket_lane_new(socket);
  if (!c->lane) {
    c->problem = "the path of the socket is too long";
    return c;
  }
  if (ring)
    picket_lane_use_ring(c->lane);
  struct picket_lane_model *m = &c->model;
  if (picket_lane_open(c->lane, model, connect_patience, m) != PICKET_LANE_OK)
    c->problem = picket_lane_error(c->lane);
  else if (ring && !picket_lane_has_ring(c->lane))
    c->problem = "the daemon gives no ring";
  else if (m->inputs != 1 || m->outputs != 1 || picket_lane_size(&m->tensors[0], rows) != (size_t)rows * row_bytes ||
           m->tensors[1].type != PICKET_LANE_FP32 || picket_lane_size(&m->tensors[1], rows) != rows * sizeof(float))
    c->problem = "the model has other inputs or outputs than were asked for";
  else if ((c->connection = fcntl(c->lane->fd, F_DUPFD_CLOEXEC, 0)) < 0)
    c->problem = "there are no descriptors left";
  return c;
}

const char *lane_problem(const lane_caller *c) { return c->problem ? c->problem : ""; }

uint32_t lane_retry_after(const lane_caller *c) { return picket_lane_retry_after(c->lane); }

// One request. The client's own function would connect anew where the connection is lost, unseen; this is the part of it that asks.
static int ask(lane_caller *c, const char *rows, int64_t first) {
  const void *in[] = {rows + (size_t)first * c->row_bytes};
  void *out[] = {c->answers};
  int code = picket_lane_predict_here_(c->lane, &c->model, c->rows, in, out, -1);
  if (code != PICKET_LANE_OK)
    c->problem = picket_lane_error(c->lane);
  return code;
}

static void check(lane_caller *c, lane_load *load, const float *answers, int64_t first) {
  if (!answers)
    return;
  for (uint32_t i = 0; i < c->rows; i++)
    if (!(fabs((double)c->answers[i] - (double)answers[first + i]) <= load->tolerance)) { // nor NaN
      if (load->wrong++ == 0) {
        load->row = first + i;
        load->answer = c->answers[i];
      }
      return;
    }
}

// Requests between two looks at the clock: 1, 2, 4 and more, up to most_unlooked.
static int64_t untimed(lane_caller *c, lane_load *load, const char *rows, const float *answers, uint64_t choices, lane_timed *timed) {
  for (int n = 1; !__atomic_load_n(&c->stopped, __ATOMIC_ACQUIRE); n = n < most_unlooked ? 2 * n : n) {
    for (int i = 0; i < n; i++) {
      int64_t first = (int64_t)below(c, choices);
      int code = ask(c, rows, first);
      if (code != PICKET_LANE_OK) {
        int64_t now = lane_now() - load->origin;
        *timed = (lane_timed){now, now, 0, code};
        return 1;
      }
      check(c, load, answers, first);
      load->asked++;
    }
    if ((load->took = lane_now() - load->origin) >= load->end)
      break;
  }
  return 0;
}

int64_t lane_drive(lane_caller *c, lane_load *load, const void *rows, const float *answers, int64_t count, lane_timed *timed, int64_t room) {
  uint64_t choices = (uint64_t)(count - c->rows + 1);
  if (load->every == 0)
    return untimed(c, load, rows, answers, choices, timed);
  int64_t n = 0;
  while (n < room && !__atomic_load_n(&c->stopped, __ATOMIC_ACQUIRE)) {
    lane_timed *t = &timed[n];
    *t = (lane_timed){0};
    int64_t first = 0;
    // A random number of requests go untimed, up to one that fails, so that nothing that comes round falls into step with what is timed.
    for (uint64_t more = below(c, 2 * (uint64_t)load->every - 1); more > 0 && t->code == PICKET_LANE_OK; more--) {
      first = (int64_t)below(c, choices);
      t->code = ask(c, rows, first);
      if (t->code == PICKET_LANE_OK) {
        check(c, load, answers, first);
        t->others++;
      }
    }
    first = (int64_t)below(c, choices);
    t->sent = t->back = lane_now() - load->origin;
    if (t->code == PICKET_LANE_OK) {
      if (t->sent >= load->end)
        break;
      t->code = ask(c, rows, first);
      t->back = lane_now() - load->origin;
    }
    n++;
    if (t->code != PICKET_LANE_OK)
      break;
    check(c, load, answers, first);
  }
  return n;
}

void lane_stop(lane_caller *c) {
  __atomic_store_n(&c->stopped, 1, __ATOMIC_RELEASE);
  if (c->connection >= 0)
    shutdown(c->connection, SHUT_RDWR);
}

void lane_free(lane_caller *c) {
  if (!c)
    return;
  if (c->connection >= 0)
    close(c->connection);
  picket_lane_free(c->lane);
  free(c);
}
