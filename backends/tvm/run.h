// The runtime that a library compiled by TVM expects around it, and the run of a graph.

#ifndef PICKET_TVM_RUN_H
#define PICKET_TVM_RUN_H

#include <stddef.h>
#include <stdint.h>

// A tensor as DLPack lays it out.
typedef struct {
  void *data;
  int32_t device_type, device_id;
  int32_t rank;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape;
  int64_t *strides; // NULL for a dense tensor, or its strides, which functions then check against theirs
  uint64_t offset;
} picket_tvm_tensor;

// An argument of a function.
typedef union {
  int64_t number;
  double real;
  void *pointer;
} picket_tvm_value;

// One call of a graph: a function of the library and its arguments, which are tensors.
typedef struct {
  void *function;
  picket_tvm_value *values;
  int32_t *kinds;
  int32_t count;
} picket_tvm_call;

// Memory that is another for each run: where it is, and the tensors that lie in it.
typedef struct {
  void *data;
  picket_tvm_tensor **tensors;
  size_t count;
} picket_tvm_place;

// A graph. Whoever makes it owns all of its memory.
typedef struct {
  picket_tvm_call *calls;
  picket_tvm_place *places;
  size_t call_count, place_count;
} picket_tvm_program;

// One executor of a graph: threads, and what functions take as working memory. Used by one thread at a time.
typedef struct picket_tvm_executor picket_tvm_executor;

// Fills a slot of a library, a pointer that it calls through, with the function of that number, and tells whether there is
// one. They are numbered as the names in context.go.
int picket_tvm_provide(void **slot, int number);

// Makes an executor that runs the program, which has to outlive it, with up to threads threads, the caller's among them, and
// up to limit bytes of working memory. The others are started here, with the CPUs that the caller may use. NULL, with errno
// set, where there is no memory or no more threads.
picket_tvm_executor *picket_tvm_new(const picket_tvm_program *program, int threads, size_t limit);

// Ends the threads and frees all but the program.
void picket_tvm_free(picket_tvm_executor *executor);

// Runs the program once, each function by at most tasks threads. Returns 0, or the number, from 1, of the call that failed.
size_t picket_tvm_run(picket_tvm_executor *executor, int tasks);

// What the call that failed has said, in any bytes and possibly nothing. Valid until the next run.
const char *picket_tvm_message(const picket_tvm_executor *executor);

// Whether the call that failed asked for a function of TVM's own runtime. Of the last run, as above.
int picket_tvm_needs_runtime(const picket_tvm_executor *executor);

// How a trial ended.
enum {
  PICKET_TVM_RAN = 0,      // it ran, whatever the functions said
  PICKET_TVM_UNTRIED = -1, // no process could be made for it
  // else the signal that ended it
};

// Runs the program once in a process of its own, which is given so many seconds, so that code that this processor cannot run,
// or that leaves its memory, ends that. In *at is then the number, from 1, of the call at which it ended.
int picket_tvm_try(picket_tvm_executor *executor, unsigned seconds, size_t *at);

#endif
