// Functions as TVM compiles them, each with one thing that the fixtures have not. Arguments are one input and one output of 64
// floats each.

#include <stddef.h>
#include <stdint.h>

typedef struct {
  float *data;
  int32_t device_type, device_id, rank;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t offset;
} tensor;

typedef struct {
  void *barrier;
  int32_t tasks;
} group;

enum { N = 64 };

// What the loader of the library fills in.
#define SLOT __attribute__((visibility("default"), weak))
SLOT void (*__TVMAPISetLastError)(const char *);
SLOT void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
SLOT int (*__TVMBackendFreeWorkspace)(int, int, void *);
SLOT int (*__TVMBackendParallelLaunch)(int (*)(int, group *, void *), void *, int);
SLOT int (*__TVMBackendParallelBarrier)(int, group *);
SLOT int (*__TVMBackendGetFuncFromEnv)(void *, const char *, void **);
SLOT void *__tvm_module_ctx;

#ifdef UNKNOWN
SLOT void *__TVMBackendRunCPUAffinity;
#endif
#ifdef NEWER
int __tvm_ffi_main(void *self, void *args, int count, void *result) { return 0; }
#endif

#define FUNCTION(name) int name(tensor **arguments, int32_t *kinds, int32_t count, void *result, int32_t *kind, void *resource)
#define IN arguments[0]->data
#define OUT arguments[1]->data

FUNCTION(add_one) {
  for (int i = 0; i < N; i++)
    OUT[i] = IN[i] + 1;
  return 0;
}

// Needs libm, and does not say so: it is linked without.
float expf(float);
FUNCTION(exponential) {
  for (int i = 0; i < N; i++)
    OUT[i] = expf(IN[i]);
  return 0;
}

// Fails on what it is asked and not on zeros.
FUNCTION(fail_on_negative) {
  if (IN[0] < 0) {
    __TVMAPISetLastError(IN[0] < -1 ? NULL : "the first value\n\tis \xff negative.");
    return -1;
  }
  return add_one(arguments, kinds, count, result, kind, resource);
}

// Fails without a word.
FUNCTION(fail) { return 1; }

// What a task works on.
typedef struct {
  float *in, *out, *sums;
} work;

// Each task sums its part, waits for the others, and adds all sums to its part.
static int task(int number, group *g, void *data) {
  work *w = data;
  int from = N * number / g->tasks, to = N * (number + 1) / g->tasks;
  float *own = __TVMBackendAllocWorkspace(1, 0, sizeof(float), 2, 32);
  if (own == NULL)
    return -1;
  *own = 0;
  for (int i = from; i < to; i++)
    *own += w->in[i];
  w->sums[number] = *own;
  __TVMBackendFreeWorkspace(1, 0, own);
  __TVMBackendParallelBarrier(number, g);
  float sum = 0;
  for (int i = 0; i < g->tasks; i++)
    sum += w->sums[i];
  for (int i = from; i < to; i++)
    w->out[i] = w->in[i] + sum;
  return 0;
}

static int launch(tensor **arguments, int tasks) {
  float sums[N];
  work w = {IN, OUT, sums};
  return __TVMBackendParallelLaunch(task, &w, tasks);
}

FUNCTION(together) { return launch(arguments, 0); }
FUNCTION(together_in_nine) { return launch(arguments, 9); }

// A task of which one fails.
static int failing_task(int number, group *g, void *data) {
  if (number == g->tasks - 1) {
    __TVMAPISetLastError("the last task is tired");
    return -1;
  }
  return 0;
}
FUNCTION(fail_in_a_task) { return __TVMBackendParallelLaunch(failing_task, NULL, 0); }

// Tasks that launch tasks.
static int inner(int number, group *g, void *data) {
  float *cell = data;
  *cell += 1;
  return 0;
}
static int outer(int number, group *g, void *data) {
  work *w = data;
  for (int i = N * number / g->tasks; i < N * (number + 1) / g->tasks; i++) {
    w->out[i] = w->in[i];
    if (__TVMBackendParallelLaunch(inner, &w->out[i], 0) != 0)
      return -1;
  }
  return 0;
}
FUNCTION(nested) {
  work w = {IN, OUT, NULL};
  return __TVMBackendParallelLaunch(outer, &w, 0);
}

// Takes blocks of growing size, writes them full, and gives them back in another order.
FUNCTION(blocks) {
  char *held[8];
  for (int i = 0; i < 8; i++) {
    uint64_t size = (uint64_t)(i + 1) * 1000 * (IN[0] > 0 ? 10 : 1);
    held[i] = __TVMBackendAllocWorkspace(1, 0, size, 2, 32);
    if (held[i] == NULL || (uintptr_t)held[i] % 128 != 0)
      return -1;
    for (uint64_t j = 0; j < size; j++)
      held[i][j] = (char)i;
  }
  int bad = 0;
  for (int i = 0; i < 8; i++)
    bad |= held[i][0] != i || held[i][999] != i;
  const int order[] = {3, 7, 0, 1, 6, 5, 2, 4};
  for (int i = 0; i < 8; i++)
    bad |= __TVMBackendFreeWorkspace(1, 0, held[order[i]]);
  if (bad)
    return -1;
  return add_one(arguments, kinds, count, result, kind, resource);
}

// Takes ever larger blocks, of which the kernel is asked for some, and writes them full: each is there again in the next run.
FUNCTION(large_blocks) {
  int bad = 0;
  for (int i = 0; i < 4; i++) {
    const uint64_t sizes[] = {1 << 20, (2 << 20) - 1, 2 << 20, (5 << 20) + 12345};
    char *low = __TVMBackendAllocWorkspace(1, 0, sizes[i], 2, 32), *high = __TVMBackendAllocWorkspace(1, 0, sizes[3 - i], 2, 32);
    if (low == NULL || high == NULL || (uintptr_t)low % 128 != 0 || (uintptr_t)high % 128 != 0)
      return -1;
    for (uint64_t j = 0; j < sizes[i]; j++)
      low[j] = 1;
    for (uint64_t j = 0; j < sizes[3 - i]; j++)
      high[j] = 2;
    bad |= low[0] != 1 || low[sizes[i] - 1] != 1;
    bad |= __TVMBackendFreeWorkspace(1, 0, high);
    bad |= __TVMBackendFreeWorkspace(1, 0, low);
  }
  return bad ? -1 : add_one(arguments, kinds, count, result, kind, resource);
}

// Keeps what it takes.
FUNCTION(hoard) {
  for (;;)
    if (__TVMBackendAllocWorkspace(1, 0, 64, 2, 32) == NULL)
      return -1;
}

FUNCTION(too_much) { return __TVMBackendAllocWorkspace(1, 0, (uint64_t)1 << 40, 2, 32) == NULL ? -1 : 0; }

FUNCTION(too_much_in_all) {
  return __TVMBackendAllocWorkspace(1, 0, (uint64_t)600 << 20, 2, 32) == NULL || __TVMBackendAllocWorkspace(1, 0, (uint64_t)600 << 20, 2, 32) == NULL ? -1 : 0;
}

FUNCTION(foreign_block) { return __TVMBackendFreeWorkspace(1, 0, IN); }

FUNCTION(call_runtime) {
  void *function;
  return __TVMBackendGetFuncFromEnv(__tvm_module_ctx, "tvm.contrib.cblas.matmul", &function);
}

FUNCTION(crash) {
  *(volatile int *)16 = 1;
  return 0;
}

#ifdef __x86_64__
// How far above a multiple of 64 the stack was when this was called: below that lie where to return to and the frame pointer.
#define STACK ((uintptr_t)__builtin_frame_address(0) + 16) % 64

static int stack_of_task(int number, group *g, void *data) {
  work *w = data;
  for (int i = N * number / g->tasks; i < N * (number + 1) / g->tasks; i++)
    w->out[i] += STACK;
  return 0;
}

// Gives that of the function and those of its tasks, added up.
FUNCTION(stack) {
  work w = {IN, OUT, NULL};
  for (int i = 0; i < N; i++)
    OUT[i] = STACK;
  return __TVMBackendParallelLaunch(stack_of_task, &w, 0);
}
#endif

// Writes one value more than the graph says.
FUNCTION(overrun) {
  for (int i = 0; i <= N; i++)
    OUT[i] = 1;
  return 0;
}
