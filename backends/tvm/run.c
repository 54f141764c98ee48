//go:build cgo && linux

#define _GNU_SOURCE
#include "run.h"

#include <errno.h>
#include <linux/futex.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#define relax() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define relax() __asm__ volatile("yield")
#else
#define relax() ((void)0)
#endif

// What TVM's compiler was told of working memory that it asks for.
#define ALIGNMENT 128
// How many blocks of working memory a thread may hold at once. A function holds a handful.
#define DEPTH 64
// Blocks of so many bytes are mapped for themselves: then large pages can be had for them, and they are given back when they are
// freed, not kept by the allocator.
#define LARGE ((size_t)2 << 20)
// How often a thread looks for the next thing to do before it sleeps or lets others run: some 50 us, which is longer than what
// lies between two functions of a graph.
#define SPINS 1500

// The parallel functions of TVM: one task of several, and what it is told of the others.
typedef struct {
  void *barrier;
  int32_t tasks;
} group;
typedef int (*task_function)(int task, group *env, void *data);
typedef int (*graph_function)(void *values, int32_t *kinds, int32_t count, void *result, int32_t *result_kind, void *resource);

// The inner loop of a convolution keeps a dozen vectors of 32 or 64 bytes on the stack, which the compiler has placed at
// multiples of their size from where the stack is when the function is called. The ABI has that at a multiple of 16 bytes only,
// so it is chance, anew in every thread, whether each of them lies in one cache line or in two, which takes 3 to 12% longer, or
// even in two pages: then a run takes 1.7 times as long. So functions are called with the stack at a multiple of 64 bytes. On
// other processors vectors have 16 bytes, and the ABI does.
#if defined(__x86_64__)
int picket_tvm_call_aligned(intptr_t a, intptr_t b, intptr_t c, intptr_t d, intptr_t e, intptr_t f, void *function);
__asm__(".text\n"
        ".hidden picket_tvm_call_aligned\n"
        ".globl picket_tvm_call_aligned\n"
        ".type picket_tvm_call_aligned, @function\n"
        "picket_tvm_call_aligned:\n"
        "  .cfi_startproc\n"
        "  push %rbp\n"
        "  .cfi_def_cfa_offset 16\n"
        "  .cfi_offset %rbp, -16\n"
        "  mov %rsp, %rbp\n"
        "  .cfi_def_cfa_register %rbp\n"
        "  and $-64, %rsp\n"
        "  call *16(%rbp)\n" // the seventh argument
        "  leave\n"
        "  .cfi_def_cfa %rsp, 8\n"
        "  ret\n"
        "  .cfi_endproc\n"
        ".size picket_tvm_call_aligned, . - picket_tvm_call_aligned\n");

static int call_task(task_function f, int task, group *env, void *data) {
  return picket_tvm_call_aligned(task, (intptr_t)env, (intptr_t)data, 0, 0, 0, (void *)f);
}

static int call_graph(const picket_tvm_call *c, picket_tvm_value *result, int32_t *result_kind) {
  return picket_tvm_call_aligned((intptr_t)c->values, (intptr_t)c->kinds, c->count, (intptr_t)result, (intptr_t)result_kind, 0, c->function);
}
#else
static int call_task(task_function f, int task, group *env, void *data) { return f(task, env, data); }

static int call_graph(const picket_tvm_call *c, picket_tvm_value *result, int32_t *result_kind) {
  return ((graph_function)c->function)(c->values, c->kinds, c->count, result, result_kind, NULL);
}
#endif

// A thread's working memory is a stack: functions give back in the reverse order, and ask for the same sizes in each run, so
// that from the second on nothing is allocated.
typedef struct {
  void *address;
  size_t size;
  int used;
} block;

typedef struct {
  _Alignas(ALIGNMENT) picket_tvm_executor *executor;
  pthread_t id;
  int depth;    // blocks that are used, or lie below one that is
  int parallel; // it does a task, so that further tasks are its own
  block blocks[DEPTH];
} thread;

struct picket_tvm_executor {
  picket_tvm_program program;
  int threads;
  size_t limit;
  size_t *progress; // where a trial notes the call that it is at; else NULL

  atomic_size_t taken; // bytes of working memory of all threads
  atomic_int failed;   // somebody has said why, or is about to: one of the below
  char message[512];

  // The tasks of one function. word is what they are claimed by: the number of the job, how many tasks it has, and how many are
  // claimed. What belongs to a job is written before its word and read before a claim, which fails if it was another's.
  int tasks;   // that a function may have in this run
  int running; // of the caller alone: threads were called up
  _Alignas(ALIGNMENT) atomic_uint_least64_t word;
  _Atomic(task_function) function;
  _Atomic(void *) data;
  group env;
  _Alignas(ALIGNMENT) atomic_int done, task_failed;
  _Alignas(ALIGNMENT) atomic_uint arrived, generation; // of a barrier
  _Alignas(ALIGNMENT) atomic_uint bell;                // a futex
  atomic_int sleepers, active, stop;

  thread all[];
};

// The thread's own, while it runs functions of a graph. The functions of a library have one set of slots for all who call
// them, so what they call has to find out for whom.
static __thread thread *current;

// How a run failed.
enum { FAILED = 1, NEEDS_RUNTIME };

// fail_as keeps the first reason.
static void fail_as(int how, const char *reason) {
  picket_tvm_executor *e = current == NULL ? NULL : current->executor;
  int none = 0;
  if (e != NULL && atomic_compare_exchange_strong(&e->failed, &none, how))
    snprintf(e->message, sizeof e->message, "%s", reason == NULL ? "" : reason);
}

static void fail(const char *reason) { fail_as(FAILED, reason); }

// What libraries call.

static void set_last_error(const char *reason) { fail(reason); }

// mapped is how much is mapped for a block of LARGE and more.
static size_t mapped(size_t size) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  return (size + page - 1) & ~(page - 1);
}

// take_block gives memory, or NULL. Large pages are asked for as far as they are within size.
static void *take_block(size_t size) {
  void *address = NULL;
  if (size < LARGE)
    return posix_memalign(&address, ALIGNMENT, size == 0 ? 1 : size) == 0 ? address : NULL;
  size_t all = mapped(size) + LARGE;
  address = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED)
    return NULL;
  size_t skip = -(uintptr_t)address % LARGE; // less than LARGE, so something is left behind the block
  char *block = (char *)address + skip;
  if (skip > 0)
    munmap(address, skip);
  munmap(block + mapped(size), LARGE - skip);
  madvise(block, size & ~(LARGE - 1), MADV_HUGEPAGE);
  return block;
}

static void give_block(block *b) {
  if (b->size < LARGE)
    free(b->address);
  else
    munmap(b->address, mapped(b->size));
}

static void *alloc_workspace(int device_type, int device_id, uint64_t size, int code, int bits) {
  (void)device_type, (void)device_id, (void)code, (void)bits;
  thread *t = current;
  if (t == NULL)
    return NULL;
  if (t->depth == DEPTH) {
    fail("it holds more blocks of working memory than are provided for");
    return NULL;
  }
  block *b = &t->blocks[t->depth];
  if (b->address == NULL || b->size < size) {
    picket_tvm_executor *e = t->executor;
    size_t more = size - b->size; // of which size is the larger, or b has none
    if (size > e->limit || atomic_fetch_add(&e->taken, more) > e->limit - more) {
      if (size <= e->limit)
        atomic_fetch_sub(&e->taken, more);
      fail("it asks for more working memory than a model may have");
      return NULL;
    }
    void *address = take_block(size);
    if (address == NULL) {
      atomic_fetch_sub(&e->taken, more);
      fail("there is no memory for what it works with");
      return NULL;
    }
    give_block(b);
    b->address = address;
    b->size = size;
  }
  b->used = 1;
  t->depth++;
  return b->address;
}

static int free_workspace(int device_type, int device_id, void *address) {
  (void)device_type, (void)device_id;
  thread *t = current;
  if (t == NULL)
    return -1;
  for (int i = t->depth - 1; i >= 0; i--) {
    if (t->blocks[i].address != address || !t->blocks[i].used)
      continue;
    t->blocks[i].used = 0;
    while (t->depth > 0 && !t->blocks[t->depth - 1].used)
      t->depth--;
    return 0;
  }
  fail("it gives back working memory that it does not hold");
  return -1;
}

#define JOB(word) ((word) >> 32)
#define TASKS(word) ((int)((word) >> 16 & 0xffff))
#define CLAIMED(word) ((int)((word)&0xffff))

// do_task does one task as the current thread.
static void do_task(picket_tvm_executor *e, task_function f, int task, group *env, void *data) {
  current->parallel = 1;
  if (call_task(f, task, env, data) != 0)
    atomic_store_explicit(&e->task_failed, 1, memory_order_relaxed);
  current->parallel = 0;
}

// help does a task that nobody has claimed, and tells whether there was one.
static int help(picket_tvm_executor *e) {
  uint64_t word = atomic_load(&e->word);
  while (CLAIMED(word) < TASKS(word)) {
    task_function f = atomic_load_explicit(&e->function, memory_order_relaxed);
    void *data = atomic_load_explicit(&e->data, memory_order_relaxed);
    if (!atomic_compare_exchange_weak(&e->word, &word, word + 1))
      continue;
    do_task(e, f, CLAIMED(word), &e->env, data);
    atomic_fetch_add_explicit(&e->done, 1, memory_order_release);
    return 1;
  }
  return 0;
}

static void futex(atomic_uint *address, int operation, uint32_t value) { syscall(SYS_futex, address, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0); }

// alone does the tasks of a job one after the other.
static int alone(task_function f, void *data, int tasks) {
  group env = {NULL, tasks};
  for (int task = 0; task < tasks; task++) {
    int result = call_task(f, task, &env, data);
    if (result != 0)
      return result;
  }
  return 0;
}

static int parallel_launch(task_function f, void *data, int asked) {
  thread *t = current;
  if (t == NULL)
    return -1;
  picket_tvm_executor *e = t->executor;
  int tasks = asked == 0 ? e->tasks : asked;
  if (tasks == 1 || e->tasks == 1 || t->parallel || tasks < 0 || tasks > 0xffff) {
    if (asked == 0)
      tasks = 1;
    return alone(f, data, tasks);
  }
  atomic_store_explicit(&e->function, f, memory_order_relaxed);
  atomic_store_explicit(&e->data, data, memory_order_relaxed);
  e->env = (group){e, tasks};
  atomic_store_explicit(&e->done, 0, memory_order_relaxed);
  atomic_store_explicit(&e->task_failed, 0, memory_order_relaxed);
  uint64_t job = JOB(atomic_load_explicit(&e->word, memory_order_relaxed)) + 1;
  atomic_store(&e->word, job << 32 | (uint64_t)tasks << 16 | 1); // the first task is claimed by this thread
  // A helper that goes to sleep counts itself before it looks at the word for the last time.
  if (atomic_load(&e->sleepers) > 0) {
    atomic_fetch_add(&e->bell, 1);
    futex(&e->bell, FUTEX_WAKE, (uint32_t)e->tasks - 1);
  }
  do_task(e, f, 0, &e->env, data);
  // Nobody waits for a helper that the scheduler starts late: what it has not claimed is done here.
  while (help(e)) {
  }
  for (int spins = 0; atomic_load_explicit(&e->done, memory_order_acquire) < tasks - 1; spins++) {
    if (spins < SPINS)
      relax();
    else
      sched_yield();
  }
  return atomic_load_explicit(&e->task_failed, memory_order_relaxed) ? -1 : 0;
}

static int parallel_barrier(int task, group *env) {
  (void)task;
  if (env->tasks == 1)
    return 0;
  picket_tvm_executor *e = env->barrier;
  if (e == NULL || env->tasks > e->tasks) {
    // The library does not look at the result, so the failure is noted as well.
    fail("its tasks wait for each other, and there are fewer threads than tasks");
    return -1;
  }
  unsigned generation = atomic_load(&e->generation);
  if (atomic_fetch_add(&e->arrived, 1) + 1 == (unsigned)env->tasks) {
    atomic_store(&e->arrived, 0);
    atomic_fetch_add(&e->generation, 1);
    return 0;
  }
  for (int spins = 0; atomic_load(&e->generation) == generation; spins++) {
    if (spins < SPINS)
      relax();
    else
      sched_yield();
  }
  return 0;
}

static int get_func_from_env(void *module, const char *name, void **out) {
  (void)module;
  char reason[256];
  snprintf(reason, sizeof reason, "it calls %.200s, a function of TVM's own runtime, which is not here", name == NULL ? "" : name);
  fail_as(NEEDS_RUNTIME, reason);
  *out = NULL;
  return -1;
}

static int func_call(void *function, void *values, int *kinds, int count, void *result, int *result_kind) {
  (void)function, (void)values, (void)kinds, (void)count, (void)result, (void)result_kind;
  fail_as(NEEDS_RUNTIME, "it calls a function of TVM's own runtime, which is not here");
  return -1;
}

// What stands for the module in calls of get_func_from_env, which does not look at it.
static char module;

// Libraries call the functions of libm, and not every linker that made one has noted where they are. They are found where the
// program itself needs libm, which this sees to.
float (*const volatile picket_tvm_libm)(float) = expf;

int picket_tvm_provide(void **slot, int number) {
  void *const functions[] = {
      (void *)set_last_error,    (void *)alloc_workspace, (void *)free_workspace, (void *)parallel_launch, (void *)parallel_barrier,
      (void *)get_func_from_env, (void *)func_call,       &module,
  };
  if (number < 0 || (size_t)number >= sizeof functions / sizeof *functions)
    return 0;
  *slot = functions[number];
  return 1;
}

// Helpers.

static void *helper(void *argument) {
  current = argument;
  picket_tvm_executor *e = current->executor;
  for (int spins = 0; !atomic_load(&e->stop);) {
    if (help(e)) {
      spins = 0;
      continue;
    }
    if (atomic_load_explicit(&e->active, memory_order_relaxed) && spins < SPINS) {
      spins++;
      relax();
      continue;
    }
    unsigned bell = atomic_load(&e->bell);
    atomic_fetch_add(&e->sleepers, 1);
    uint64_t word = atomic_load(&e->word);
    if (CLAIMED(word) >= TASKS(word) && !atomic_load(&e->stop))
      futex(&e->bell, FUTEX_WAIT, bell);
    atomic_fetch_sub(&e->sleepers, 1);
    spins = 0;
  }
  return NULL;
}

static void stop(picket_tvm_executor *e, int threads) {
  atomic_store(&e->stop, 1);
  atomic_fetch_add(&e->bell, 1);
  futex(&e->bell, FUTEX_WAKE, INT32_MAX);
  for (int i = 1; i < threads; i++)
    pthread_join(e->all[i].id, NULL);
}

picket_tvm_executor *picket_tvm_new(const picket_tvm_program *program, int threads, size_t limit) {
  size_t size = sizeof(picket_tvm_executor) + (size_t)threads * sizeof(thread);
  picket_tvm_executor *e = NULL;
  int code = posix_memalign((void **)&e, ALIGNMENT, size);
  if (code != 0) {
    errno = code;
    return NULL;
  }
  memset(e, 0, size);
  e->program = *program;
  e->limit = limit;
  e->tasks = 1;
  e->threads = threads;
  for (int i = 0; i < threads; i++)
    e->all[i].executor = e;
  // Signals are for the threads of the program that this is a part of, but for those that a thread brings upon itself.
  sigset_t blocked, before;
  sigfillset(&blocked);
  sigdelset(&blocked, SIGSEGV);
  sigdelset(&blocked, SIGBUS);
  sigdelset(&blocked, SIGILL);
  sigdelset(&blocked, SIGFPE);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  int started = 1;
  while (started < threads && (code = pthread_create(&e->all[started].id, NULL, helper, &e->all[started])) == 0)
    started++;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (started == threads)
    return e;
  stop(e, started);
  free(e);
  errno = code;
  return NULL;
}

void picket_tvm_free(picket_tvm_executor *e) {
  if (e->threads > 1)
    stop(e, e->threads);
  for (int i = 0; i < e->threads; i++)
    for (int j = 0; j < DEPTH; j++)
      give_block(&e->all[i].blocks[j]);
  free(e);
}

// A run.

size_t picket_tvm_run(picket_tvm_executor *e, int tasks) {
  const picket_tvm_program *p = &e->program;
  thread *before = current, *own = &e->all[0];
  current = own;
  own->depth = 0; // whatever a function that failed has not given back
  e->tasks = tasks < e->threads ? tasks : e->threads;
  if (atomic_load_explicit(&e->failed, memory_order_relaxed)) {
    atomic_store_explicit(&e->failed, 0, memory_order_relaxed);
    e->message[0] = 0;
    for (int i = 1; i < e->threads; i++)
      e->all[i].depth = 0; // they have nothing to do, so nobody looks at it
  }
  for (size_t i = 0; i < p->place_count; i++)
    for (size_t j = 0; j < p->places[i].count; j++)
      p->places[i].tensors[j]->data = p->places[i].data;
  if (e->tasks > 1)
    atomic_store_explicit(&e->active, 1, memory_order_relaxed);
  size_t failed = 0;
  for (size_t i = 0; i < p->call_count; i++) {
    const picket_tvm_call *c = &p->calls[i];
    if (e->progress != NULL)
      *e->progress = i + 1;
    picket_tvm_value result;
    int32_t kind = 0;
    int code = call_graph(c, &result, &kind);
    if (code != 0 || atomic_load_explicit(&e->failed, memory_order_relaxed)) {
      int none = 0;
      atomic_compare_exchange_strong(&e->failed, &none, FAILED); // one that has said nothing
      failed = i + 1;
      break;
    }
  }
  if (e->tasks > 1)
    atomic_store_explicit(&e->active, 0, memory_order_relaxed);
  current = before;
  return failed;
}

int picket_tvm_needs_runtime(const picket_tvm_executor *e) { return atomic_load_explicit(&e->failed, memory_order_relaxed) == NEEDS_RUNTIME; }

const char *picket_tvm_message(const picket_tvm_executor *e) { return e->message; }

// A trial.

// in_child runs the program in the process that was made for it. Nothing of the parent may come about here: no handler, no
// core file, no message.
static void in_child(picket_tvm_executor *e, unsigned seconds) {
  static const int fatal[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGTRAP, SIGSYS, SIGALRM};
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  prctl(PR_SET_DUMPABLE, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t open;
  sigemptyset(&open);
  for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
    signal(fatal[i], SIG_DFL);
    sigaddset(&open, fatal[i]);
  }
  sigprocmask(SIG_UNBLOCK, &open, NULL);
  alarm(seconds);
  picket_tvm_run(e, 1);
  _exit(0);
}

int picket_tvm_try(picket_tvm_executor *e, unsigned seconds, size_t *at) {
  *at = 0;
  size_t *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED)
    return PICKET_TVM_UNTRIED;
  e->progress = shared;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  pid_t child = fork();
  if (child == 0)
    in_child(e, seconds);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  int status = 0, ended = 0;
  if (child > 0) {
    while ((ended = waitpid(child, &status, 0)) < 0 && errno == EINTR) {
    }
  }
  *at = *shared;
  munmap(shared, sizeof *shared);
  e->progress = NULL;
  if (child < 0 || ended != child)
    return PICKET_TVM_UNTRIED;
  return WIFSIGNALED(status) ? WTERMSIG(status) : PICKET_TVM_RAN;
}
