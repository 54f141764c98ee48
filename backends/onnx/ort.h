// The little of ONNX Runtime's C API that the backend needs. The API is a table of functions whose places never change, so
// that the places are all there is to know; see ort.c.

#ifndef PICKET_ORT_H
#define PICKET_ORT_H

#include <stddef.h>
#include <stdint.h>

enum { picket_ort_max_rank = 8 };

// Where nodes of a graph run.
enum { picket_ort_cpu, picket_ort_cuda, picket_ort_tensorrt, picket_ort_openvino };

// An opened library with its environment, which is the process's.
typedef struct {
  const void *const *api;
  void *env, *memory; // memory is how tensors in ordinary memory are described
} picket_ort;

// A file of weights beside the model, by the name that the model has for it.
typedef struct {
  const char *name;
  const void *data;
  size_t size;
} picket_ort_file;

typedef struct {
  int threads; // of this session alone; 0 to share the process's pool
  int variable; // sizes of the model's tensors vary from run to run
  int provider, device;
  uint64_t memory; // the most that CUDA's arena may have; 0 for no limit
  const picket_ort_file *files;
  size_t file_count;
} picket_ort_options;

// A tensor: what a session says of one, or what a call is given.
typedef struct {
  char *name; // the session's
  int tensor; // 0 for a sequence, a map or anything else
  int element;
  int rank; // may be larger than picket_ort_max_rank, when dims are those that fit
  int64_t dims[picket_ort_max_rank]; // -1 for one that varies
  void *data;
  size_t size; // of data, in bytes
} picket_ort_tensor;

typedef struct {
  int provider;
  void *session, *plain, *shrinking; // the last two are options of a run: the second gives memory back after it
  size_t in_count, out_count;
  picket_ort_tensor *in, *out;
} picket_ort_session;

typedef struct {
  void *data;
  size_t size;
} picket_ort_place;

// Where the tensors of an earlier call were. Buffers come back, and with them their addresses: tensors that are seen a second
// time are bound, which makes every further call of theirs cheaper.
typedef struct {
  picket_ort_place *at; // inputs, then outputs
  void *binding;        // NULL while they were seen once
} picket_ort_bound;

enum { picket_ort_bindings = 8 };

// What one instance needs for a call, so that a call allocates nothing of ours.
typedef struct {
  picket_ort_bound bound[picket_ort_bindings];
  unsigned next; // the one to be replaced
  picket_ort_tensor *in, *out; // name, element and rank are filled in; the caller sets dims, data and size
  const char **in_names, **out_names;
  void **in_values, **out_values;
} picket_ort_call;

// All below return a text that says what went wrong, for picket_ort_free_text, or NULL. What they write to is the caller's.

void picket_ort_free_text(char *text);

// Opens the library whose OrtGetApiBase is given. threads is the size of the process's pool; the first opening decides.
char *picket_ort_open(picket_ort *o, void *get_base, uint32_t version, int threads);
// The library's version, which is its own, or NULL.
const char *picket_ort_version(void *get_base);
void picket_ort_close(picket_ort *o);

// The names of the providers, joined by newlines; the caller frees *names.
char *picket_ort_providers(picket_ort *o, char **names);

// Makes a session of the model's bytes. model and the files are borrowed for the call.
char *picket_ort_session_open(picket_ort *o, const void *model, size_t size, const picket_ort_options *options, picket_ort_session *s);
void picket_ort_session_close(picket_ort *o, picket_ort_session *s);

char *picket_ort_call_make(picket_ort_session *s, picket_ort_call *c);
void picket_ort_call_free(picket_ort *o, picket_ort_call *c);

// Runs the session from and into the call's tensors, which have to be of the shapes that it gives. What it remembers of them
// is where they are, and not what is in them.
char *picket_ort_run(picket_ort *o, picket_ort_session *s, picket_ort_call *c, int shrink);

// Runs the session from the call's tensors and says in the call which shapes and elements come out; their data is dropped.
char *picket_ort_try(picket_ort *o, picket_ort_session *s, picket_ort_call *c);

#endif
