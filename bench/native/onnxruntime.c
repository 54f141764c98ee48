//go:build cgo && linux

// ONNX Runtime's C API: a table of functions whose places never change. The input is the caller's memory; the output is made
// by the library in every call, and freed outside the time. A model has one input, and its last output is what counts: of a
// classifier the probabilities.

#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Places in the table OrtApi.
enum {
  get_error_message = 2,
  create_env = 3,
  create_session = 7,
  run_session = 9,
  create_session_options = 10,
  set_log_severity = 22,
  set_optimization = 23,
  set_intra_threads = 24,
  output_count = 31,
  input_type = 33,
  input_name = 36,
  output_name = 37,
  create_tensor = 49,
  tensor_data = 51,
  tensor_info_of_type = 55,
  dimensions_count = 61,
  dimensions = 62,
  element_count = 64,
  tensor_info = 65,
  create_cpu_memory_info = 69,
  default_allocator = 78,
  release_env = 92,
  release_status = 93,
  release_memory_info = 94,
  release_session = 95,
  release_value = 96,
  release_type_info = 98,
  release_tensor_info = 99,
  release_session_options = 100,
  append_cuda = 204,
  create_cuda_options = 205,
  release_cuda_options = 208,
};
enum { api_version = 16, element_float = 1, all_optimizations = 99, log_errors = 3 };

typedef struct {
  const void *const *(*get_api)(uint32_t version);
  const char *(*version)(void);
} api_base;

typedef struct {
  peer base;
  const void *const *api;
  void *env, *options, *session, *memory;
  char *input, *output; // names, which are freed with the process
  int64_t shape[8];     // of the input; the first is set in every call
  size_t rank;
} onnxruntime;

typedef void *status;
#define CALL(p, place, type) ((type)(p)->api[place])

static int failed(onnxruntime *p, status s, char *problem) {
  if (s == NULL)
    return 0;
  snprintf(problem, peer_problem_size, "%s", CALL(p, get_error_message, const char *(*)(status))(s));
  CALL(p, release_status, void (*)(status))(s);
  return 1;
}

static int64_t run(peer *base, const peer_rows *r, float *out) {
  onnxruntime *p = (onnxruntime *)base;
  const char *inputs[] = {p->input}, *outputs[] = {p->output};
  p->shape[0] = r->rows;
  void *in = NULL, *answer = NULL, *info = NULL;
  size_t count = 0;
  float *data;
  int64_t start = peer_now();
  int bad = failed(p, CALL(p, create_tensor, status (*)(void *, void *, size_t, const int64_t *, size_t, int, void **))(
                          p->memory, (void *)r->single, sizeof(float) * r->rows * base->features, p->shape, p->rank, element_float, &in),
                   base->problem) ||
            failed(p, CALL(p, run_session, status (*)(void *, void *, const char **, void **, size_t, const char **, size_t, void **))(
                          p->session, NULL, inputs, &in, 1, outputs, 1, &answer),
                   base->problem) ||
            failed(p, CALL(p, tensor_data, status (*)(void *, float **))(answer, &data), base->problem);
  int64_t took = peer_now() - start;
  bad = bad || failed(p, CALL(p, tensor_info, status (*)(void *, void **))(answer, &info), base->problem) ||
        failed(p, CALL(p, element_count, status (*)(void *, size_t *))(info, &count), base->problem);
  int64_t columns = (int64_t)count / r->rows; // two for a binary model of trees
  for (int64_t i = 0; !bad && i < r->rows; i++)
    memcpy(out + i * base->outputs, data + i * columns + columns - base->outputs, sizeof *out * base->outputs);
  if (info != NULL)
    CALL(p, release_tensor_info, void (*)(void *))(info);
  CALL(p, release_value, void (*)(void *))(in);
  CALL(p, release_value, void (*)(void *))(answer);
  return bad ? -1 : took;
}

static void release(peer *base) {
  onnxruntime *p = (onnxruntime *)base;
  CALL(p, release_session, void (*)(void *))(p->session);
  CALL(p, release_session_options, void (*)(void *))(p->options);
  CALL(p, release_memory_info, void (*)(void *))(p->memory);
  CALL(p, release_env, void (*)(void *))(p->env);
}

// Asks the session for the names and the input's shape.
static int described(onnxruntime *p, char *problem) {
  void *allocator, *type = NULL;
  const void *info = NULL;
  size_t outputs = 0;
  int bad = failed(p, CALL(p, default_allocator, status (*)(void **))(&allocator), problem) ||
            failed(p, CALL(p, output_count, status (*)(void *, size_t *))(p->session, &outputs), problem) ||
            failed(p, CALL(p, input_name, status (*)(void *, size_t, void *, char **))(p->session, 0, allocator, &p->input), problem) ||
            failed(p, CALL(p, output_name, status (*)(void *, size_t, void *, char **))(p->session, outputs - 1, allocator, &p->output), problem) ||
            failed(p, CALL(p, input_type, status (*)(void *, size_t, void **))(p->session, 0, &type), problem) ||
            failed(p, CALL(p, tensor_info_of_type, status (*)(void *, const void **))(type, &info), problem) ||
            failed(p, CALL(p, dimensions_count, status (*)(const void *, size_t *))(info, &p->rank), problem);
  if (!bad && (p->rank < 1 || p->rank > 8)) {
    snprintf(problem, peer_problem_size, "the input has %zu dimensions", p->rank);
    bad = 1;
  }
  bad = bad || failed(p, CALL(p, dimensions, status (*)(const void *, int64_t *, size_t))(info, p->shape, p->rank), problem);
  if (type != NULL)
    CALL(p, release_type_info, void (*)(void *))(type);
  return !bad;
}

// Has the first GPU run what it can, with the options that the library has by default.
static int on_gpu(onnxruntime *p, char *problem) {
  void *cuda = NULL;
  if (failed(p, CALL(p, create_cuda_options, status (*)(void **))(&cuda), problem))
    return 0;
  int bad = failed(p, CALL(p, append_cuda, status (*)(void *, const void *))(p->options, cuda), problem);
  CALL(p, release_cuda_options, void (*)(void *))(cuda);
  return !bad;
}

static peer *opened(const char *library, const char *model, int64_t features, int64_t outputs, int threads, int cuda, char *problem) {
  const api_base *(*get_base)(void);
  void *l = peer_library(library, problem);
  onnxruntime *p = calloc(1, sizeof *p);
  if (l == NULL || p == NULL || !peer_symbol(l, "OrtGetApiBase", &get_base, problem) || (p->api = get_base()->get_api(api_version)) == NULL) {
    free(p);
    return NULL;
  }
  p->base = (peer){.run = run, .release = release, .features = features, .outputs = outputs};
  if (failed(p, CALL(p, create_env, status (*)(int, const char *, void **))(log_errors, "bench", &p->env), problem) ||
      failed(p, CALL(p, create_session_options, status (*)(void **))(&p->options), problem) ||
      failed(p, CALL(p, set_intra_threads, status (*)(void *, int))(p->options, threads), problem) ||
      failed(p, CALL(p, set_optimization, status (*)(void *, int))(p->options, all_optimizations), problem) ||
      failed(p, CALL(p, set_log_severity, status (*)(void *, int))(p->options, log_errors), problem) ||
      (cuda && !on_gpu(p, problem)) ||
      failed(p, CALL(p, create_session, status (*)(void *, const char *, void *, void **))(p->env, model, p->options, &p->session), problem) ||
      failed(p, CALL(p, create_cpu_memory_info, status (*)(int, int, void **))(0, 0, &p->memory), problem) || !described(p, problem)) {
    peer_close(&p->base);
    return NULL;
  }
  return &p->base;
}

peer *peer_open_onnxruntime(const char *library, const char *model, int64_t features, int64_t outputs, int threads, char *problem) {
  return opened(library, model, features, outputs, threads, 0, problem);
}

peer *peer_open_onnxruntime_cuda(const char *library, const char *model, int64_t features, int64_t outputs, int threads, char *problem) {
  return opened(library, model, features, outputs, threads, 1, problem);
}
