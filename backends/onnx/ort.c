//go:build cgo && linux

#include "ort.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Places in the table OrtApi, all of them there since version 18 of the API.
enum {
  get_error_message = 2,
  create_session_from_array = 8,
  run = 9,
  create_session_options = 10,
  disable_mem_pattern = 17,
  set_session_log_severity = 22,
  set_optimization = 23,
  set_intra_threads = 24,
  set_inter_threads = 25,
  input_count = 30,
  output_count = 31,
  input_type = 33,
  output_type = 34,
  input_name = 36,
  output_name = 37,
  create_run_options = 39,
  create_tensor = 49,
  cast_to_tensor_info = 55,
  element_type = 60,
  dimensions_count = 61,
  dimensions = 62,
  tensor_info = 65,
  value_type = 67,
  create_cpu_memory_info = 69,
  allocator_free = 76,
  default_allocator = 78,
  release_env = 92,
  release_status = 93,
  release_memory_info = 94,
  release_session = 95,
  release_value = 96,
  release_run_options = 97,
  release_type = 98,
  release_tensor_info = 99,
  release_session_options = 100,
  create_env_with_pools = 119,
  disable_own_threads = 120,
  create_threading = 121,
  release_threading = 122,
  available_providers = 125,
  release_providers = 126,
  add_session_config = 130,
  run_binding = 133,
  create_binding = 134,
  release_binding = 135,
  bind_input = 136,
  bind_output = 137,
  set_pool_threads = 147,
  set_pool_inter_threads = 148,
  set_pool_spin = 149,
  add_run_config = 165,
  append_tensorrt = 170,
  create_tensorrt_options = 171,
  update_tensorrt_options = 172,
  release_tensorrt_options = 174,
  append_cuda = 204,
  create_cuda_options = 205,
  update_cuda_options = 206,
  release_cuda_options = 208,
  append_provider = 216,
  add_files_in_memory = 279,
};

// Values of its enumerations.
enum { fatal_only = 4, all_optimizations = 99, device_allocator = 0, default_memory = 0, type_tensor = 1 };

typedef void *status;
typedef struct {
  const void *const *(*get_api)(uint32_t version);
  const char *(*version)(void);
} api_base;

#define CALL(o, place, ...) (((status(*)(__VA_ARGS__))(o)->api[place]))
#define RELEASE(o, place, thing) (((void (*)(void *))(o)->api[place])(thing))

// What a problem says when there is no memory to say more. NULL would mean success.
static char no_memory[] = "there was no memory left, not even for the reason";

static char *copied(const char *text) {
  char *copy = strdup(text != NULL && *text != 0 ? text : "ONNX Runtime gives no reason");
  return copy != NULL ? copy : no_memory;
}

void picket_ort_free_text(char *text) {
  if (text != no_memory)
    free(text);
}

// The text of a status, which it frees.
static char *told(picket_ort *o, status s) {
  if (s == NULL)
    return NULL;
  char *text = copied(((const char *(*)(status))o->api[get_error_message])(s));
  RELEASE(o, release_status, s);
  return text;
}

const char *picket_ort_version(void *get_base) {
  const api_base *base = ((const api_base *(*)(void))get_base)();
  return base == NULL ? NULL : base->version();
}

char *picket_ort_open(picket_ort *o, void *get_base, uint32_t version, int threads) {
  const api_base *base = ((const api_base *(*)(void))get_base)();
  memset(o, 0, sizeof *o);
  if (base == NULL || (o->api = base->get_api(version)) == NULL)
    return copied("it has not the functions that are needed");
  void *pool = NULL;
  char *problem = told(o, CALL(o, create_threading, void **)(&pool));
  if (problem != NULL)
    return problem;
  // Threads that spin for work would take the cores from every other model.
  if ((problem = told(o, CALL(o, set_pool_threads, void *, int)(pool, threads))) == NULL &&
    (problem = told(o, CALL(o, set_pool_inter_threads, void *, int)(pool, 1))) == NULL &&
    (problem = told(o, CALL(o, set_pool_spin, void *, int)(pool, 0))) == NULL)
    problem = told(o, CALL(o, create_env_with_pools, int, const char *, const void *, void **)(fatal_only, "picket", pool, &o->env));
  RELEASE(o, release_threading, pool);
  if (problem == NULL)
    problem = told(o, CALL(o, create_cpu_memory_info, int, int, void **)(device_allocator, default_memory, &o->memory));
  if (problem != NULL)
    picket_ort_close(o);
  return problem;
}

void picket_ort_close(picket_ort *o) {
  if (o->memory != NULL)
    RELEASE(o, release_memory_info, o->memory);
  if (o->env != NULL)
    RELEASE(o, release_env, o->env);
  o->memory = o->env = NULL;
}

char *picket_ort_providers(picket_ort *o, char **names) {
  char **list = NULL;
  int n = 0;
  char *problem = told(o, CALL(o, available_providers, char ***, int *)(&list, &n));
  if (problem != NULL)
    return problem;
  size_t size = 1;
  for (int i = 0; i < n; i++)
    size += strlen(list[i]) + 1;
  char *joined = calloc(size, 1);
  for (int i = 0; joined != NULL && i < n; i++) {
    strcat(joined, list[i]);
    strcat(joined, "\n");
  }
  problem = told(o, CALL(o, release_providers, char **, int)(list, n));
  if (problem == NULL && joined == NULL)
    problem = copied("out of memory");
  if (problem != NULL)
    free(joined);
  else
    *names = joined;
  return problem;
}

// Adds CUDA or TensorRT, whose options are objects of their own.
static char *add_nvidia(picket_ort *o, void *options, const char *device, int create, int update, int append, int release, size_t count,
            const char *const *keys, const char *const *values) {
  void *provider = NULL;
  char *problem = told(o, CALL(o, create, void **)(&provider));
  if (problem != NULL)
    return problem;
  const char *id = "device_id";
  if ((problem = told(o, CALL(o, update, void *, const char *const *, const char *const *, size_t)(provider, &id, &device, 1))) == NULL &&
    (count == 0 ||
     (problem = told(o, CALL(o, update, void *, const char *const *, const char *const *, size_t)(provider, keys, values, count))) == NULL))
    problem = told(o, CALL(o, append, void *, const void *)(options, provider));
  RELEASE(o, release, provider);
  return problem;
}

static char *add_cuda(picket_ort *o, void *options, const char *device, uint64_t memory) {
  char limit[24];
  snprintf(limit, sizeof limit, "%llu", (unsigned long long)memory);
  // As much as is asked for and no more, because models share the device's memory.
  const char *keys[] = {"arena_extend_strategy", "gpu_mem_limit"}, *values[] = {"kSameAsRequested", limit};
  return add_nvidia(o, options, device, create_cuda_options, update_cuda_options, append_cuda, release_cuda_options, memory > 0 ? 2 : 1, keys, values);
}

static char *add_provider(picket_ort *o, void *options, int provider, int device, uint64_t memory) {
  char number[16];
  snprintf(number, sizeof number, "%d", device);
  char *problem = NULL;
  switch (provider) {
  case picket_ort_tensorrt:
    problem = add_nvidia(o, options, number, create_tensorrt_options, update_tensorrt_options, append_tensorrt, release_tensorrt_options, 0, NULL, NULL);
    // What TensorRT cannot run, CUDA does.
    return problem != NULL ? problem : add_cuda(o, options, number, memory);
  case picket_ort_cuda:
    return add_cuda(o, options, number, memory);
  case picket_ort_openvino: {
    const char *keys[] = {"device_type"}, *values[] = {"CPU"};
    return told(o, CALL(o, append_provider, void *, const char *, const char *const *, const char *const *, size_t)(
               options, "OpenVINO", keys, values, 1));
  }
  }
  return NULL;
}

static char *add_files(picket_ort *o, void *options, const picket_ort_file *files, size_t n) {
  if (n == 0)
    return NULL;
  const char **names = calloc(n, sizeof *names);
  char **data = calloc(n, sizeof *data);
  size_t *sizes = calloc(n, sizeof *sizes);
  char *problem = NULL;
  if (names == NULL || data == NULL || sizes == NULL) {
    problem = copied("out of memory");
  } else {
    for (size_t i = 0; i < n; i++) {
      names[i] = files[i].name;
      data[i] = (char *)files[i].data;
      sizes[i] = files[i].size;
    }
    problem = told(o, CALL(o, add_files_in_memory, void *, const char **, char *const *, const size_t *, size_t)(options, names, data, sizes, n));
  }
  free(names);
  free(data);
  free(sizes);
  return problem;
}

static char *describe(picket_ort *o, const void *info, picket_ort_tensor *t) {
  size_t rank = 0;
  char *problem = NULL;
  if ((problem = told(o, CALL(o, element_type, const void *, int *)(info, &t->element))) != NULL ||
    (problem = told(o, CALL(o, dimensions_count, const void *, size_t *)(info, &rank))) != NULL)
    return problem;
  t->rank = rank > 1000 ? 1000 : (int)rank;
  t->tensor = 1;
  return told(o, CALL(o, dimensions, const void *, int64_t *, size_t)(info, t->dims, rank < picket_ort_max_rank ? rank : picket_ort_max_rank));
}

// What the session says of its inputs or outputs.
static char *list(picket_ort *o, void *session, void *allocator, int count_at, int name_at, int type_at, picket_ort_tensor **out, size_t *count) {
  size_t n = 0;
  char *problem = told(o, CALL(o, count_at, const void *, size_t *)(session, &n));
  if (problem != NULL)
    return problem;
  if ((*out = calloc(n + 1, sizeof **out)) == NULL)
    return copied("out of memory");
  *count = n;
  for (size_t i = 0; i < n; i++) {
    picket_ort_tensor *t = *out + i;
    char *name = NULL;
    if ((problem = told(o, CALL(o, name_at, const void *, size_t, void *, char **)(session, i, allocator, &name))) != NULL)
      return problem;
    t->name = strdup(name);
    problem = told(o, CALL(o, allocator_free, void *, void *)(allocator, name));
    if (problem == NULL && t->name == NULL)
      problem = copied("out of memory");
    void *type = NULL;
    const void *info = NULL;
    if (problem == NULL && (problem = told(o, CALL(o, type_at, const void *, size_t, void **)(session, i, &type))) == NULL &&
      (problem = told(o, CALL(o, cast_to_tensor_info, const void *, const void **)(type, &info))) == NULL && info != NULL)
      problem = describe(o, info, t);
    if (type != NULL)
      RELEASE(o, release_type, type);
    if (problem != NULL)
      return problem;
  }
  return NULL;
}

static char *run_options(picket_ort *o, void **options, int shrink) {
  char *problem = told(o, CALL(o, create_run_options, void **)(options));
  if (problem == NULL && shrink)
    problem = told(o, CALL(o, add_run_config, void *, const char *, const char *)(*options, "memory.enable_memory_arena_shrinkage", "cpu:0"));
  return problem;
}

char *picket_ort_session_open(picket_ort *o, const void *model, size_t size, const picket_ort_options *given, picket_ort_session *s) {
  memset(s, 0, sizeof *s);
  s->provider = given->provider;
  void *options = NULL, *allocator = NULL;
  char *problem = NULL;
  typedef const char *text;
  if ((problem = told(o, CALL(o, create_session_options, void **)(&options))) != NULL)
    return problem;
  if ((problem = told(o, CALL(o, set_optimization, void *, int)(options, all_optimizations))) != NULL ||
    (problem = told(o, CALL(o, set_session_log_severity, void *, int)(options, fatal_only))) != NULL ||
    (problem = told(o, CALL(o, set_inter_threads, void *, int)(options, 1))) != NULL ||
    // Weights are read once and stay: they need no arena, which would round their sizes up.
    (problem = told(o, CALL(o, add_session_config, void *, text, text)(options, "session.use_device_allocator_for_initializers", "1"))) != NULL)
    goto end;
  if (given->threads == 0) {
    if ((problem = told(o, CALL(o, disable_own_threads, void *)(options))) != NULL)
      goto end;
  } else if ((problem = told(o, CALL(o, set_intra_threads, void *, int)(options, given->threads))) != NULL ||
         (problem = told(o, CALL(o, add_session_config, void *, text, text)(options, "session.intra_op.allow_spinning", "0"))) != NULL)
    goto end;
  // The library would keep a plan of its memory for every number of rows that it ever saw.
  if (given->variable && (problem = told(o, CALL(o, disable_mem_pattern, void *)(options))) != NULL)
    goto end;
  if ((problem = add_provider(o, options, given->provider, given->device, given->memory)) != NULL || (problem = add_files(o, options, given->files, given->file_count)) != NULL ||
    (problem = told(o, CALL(o, default_allocator, void **)(&allocator))) != NULL ||
    (problem = told(o, CALL(o, create_session_from_array, const void *, const void *, size_t, const void *, void **)(
                 o->env, model, size, options, &s->session))) != NULL ||
    (problem = list(o, s->session, allocator, input_count, input_name, input_type, &s->in, &s->in_count)) != NULL ||
    (problem = list(o, s->session, allocator, output_count, output_name, output_type, &s->out, &s->out_count)) != NULL ||
    (problem = run_options(o, &s->plain, 0)) != NULL)
    goto end;
  problem = run_options(o, &s->shrinking, 1);
end:
  RELEASE(o, release_session_options, options);
  if (problem != NULL)
    picket_ort_session_close(o, s);
  return problem;
}

void picket_ort_session_close(picket_ort *o, picket_ort_session *s) {
  if (s->plain != NULL)
    RELEASE(o, release_run_options, s->plain);
  if (s->shrinking != NULL)
    RELEASE(o, release_run_options, s->shrinking);
  if (s->session != NULL)
    RELEASE(o, release_session, s->session);
  for (size_t i = 0; s->in != NULL && i < s->in_count; i++)
    free(s->in[i].name);
  for (size_t i = 0; s->out != NULL && i < s->out_count; i++)
    free(s->out[i].name);
  free(s->in);
  free(s->out);
  memset(s, 0, sizeof *s);
}

static int make_side(const picket_ort_tensor *from, size_t n, picket_ort_tensor **tensors, const char ***names, void ***values) {
  *tensors = calloc(n + 1, sizeof **tensors);
  *names = calloc(n + 1, sizeof **names);
  *values = calloc(n + 1, sizeof **values);
  if (*tensors == NULL || *names == NULL || *values == NULL)
    return 0;
  for (size_t i = 0; i < n; i++) {
    (*tensors)[i] = from[i];
    (*names)[i] = from[i].name;
  }
  return 1;
}

char *picket_ort_call_make(picket_ort_session *s, picket_ort_call *c) {
  memset(c, 0, sizeof *c);
  int made = make_side(s->in, s->in_count, &c->in, &c->in_names, &c->in_values) && make_side(s->out, s->out_count, &c->out, &c->out_names, &c->out_values);
  for (int i = 0; i < picket_ort_bindings && made; i++)
    made = (c->bound[i].at = calloc(s->in_count + s->out_count + 1, sizeof *c->bound[i].at)) != NULL;
  if (made)
    return NULL;
  picket_ort_call_free(NULL, c);
  return copied("out of memory");
}

static void unbind(picket_ort *o, picket_ort_bound *b) {
  if (b->binding != NULL)
    RELEASE(o, release_binding, b->binding);
  b->binding = NULL;
}

void picket_ort_call_free(picket_ort *o, picket_ort_call *c) {
  for (int i = 0; i < picket_ort_bindings; i++) {
    unbind(o, c->bound + i);
    free(c->bound[i].at);
  }
  free(c->in);
  free(c->out);
  free(c->in_names);
  free(c->out_names);
  free(c->in_values);
  free(c->out_values);
  memset(c, 0, sizeof *c);
}

// Lays values over the tensors' memory.
static char *lay(picket_ort *o, picket_ort_tensor *t, void **values, size_t n) {
  for (size_t i = 0; i < n; i++) {
    char *problem = told(o, CALL(o, create_tensor, const void *, void *, size_t, const int64_t *, size_t, int, void **)(
                  o->memory, t[i].data, t[i].size, t[i].dims, (size_t)t[i].rank, t[i].element, values + i));
    if (problem != NULL)
      return problem;
  }
  return NULL;
}

static void drop(picket_ort *o, void **values, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (values[i] != NULL) {
      RELEASE(o, release_value, values[i]);
      values[i] = NULL;
    }
}

static char *run_values(picket_ort *o, picket_ort_session *s, picket_ort_call *c, void *options) {
  return told(o, CALL(o, run, void *, const void *, const char *const *, const void *const *, size_t, const char *const *, size_t, void **)(
             s->session, options, c->in_names, (const void *const *)c->in_values, s->in_count, c->out_names, s->out_count, c->out_values));
}

// Whether the tensors are at these places. Their other dimensions are the model's, so that the size tells the first.
static int same(const picket_ort_tensor *t, const picket_ort_place *at, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (t[i].data != at[i].data || t[i].size != at[i].size)
      return 0;
  return 1;
}

static void note(const picket_ort_tensor *t, picket_ort_place *at, size_t n) {
  for (size_t i = 0; i < n; i++)
    at[i] = (picket_ort_place){t[i].data, t[i].size};
}

static char *bind(picket_ort *o, picket_ort_session *s, picket_ort_call *c, void **binding) {
  char *problem = told(o, CALL(o, create_binding, void *, void **)(s->session, binding));
  for (size_t i = 0; i < s->in_count && problem == NULL; i++)
    problem = told(o, CALL(o, bind_input, void *, const char *, const void *)(*binding, c->in_names[i], c->in_values[i]));
  for (size_t i = 0; i < s->out_count && problem == NULL; i++)
    problem = told(o, CALL(o, bind_output, void *, const char *, const void *)(*binding, c->out_names[i], c->out_values[i]));
  return problem;
}

char *picket_ort_run(picket_ort *o, picket_ort_session *s, picket_ort_call *c, int shrink) {
  void *options = shrink ? s->shrinking : s->plain;
  picket_ort_bound *b = NULL;
  int again = 0;
  if (s->provider == picket_ort_cpu) { // others would copy an input when it is bound, and not when it is run
    for (int i = 0; i < picket_ort_bindings && !again; i++) {
      b = c->bound + i;
      again = same(c->in, b->at, s->in_count) && same(c->out, b->at + s->in_count, s->out_count);
    }
    if (!again) {
      b = c->bound + c->next++ % picket_ort_bindings;
      unbind(o, b);
      note(c->in, b->at, s->in_count);
      note(c->out, b->at + s->in_count, s->out_count);
    }
  }
  char *problem = NULL;
  if (!again || b->binding == NULL) {
    if ((problem = lay(o, c->in, c->in_values, s->in_count)) == NULL && (problem = lay(o, c->out, c->out_values, s->out_count)) == NULL)
      problem = again ? bind(o, s, c, &b->binding) : run_values(o, s, c, options);
    drop(o, c->in_values, s->in_count);
    drop(o, c->out_values, s->out_count);
  }
  if (again && problem == NULL)
    problem = told(o, CALL(o, run_binding, void *, const void *, const void *)(s->session, options, b->binding));
  if (again && problem != NULL)
    unbind(o, b);
  return problem;
}

char *picket_ort_try(picket_ort *o, picket_ort_session *s, picket_ort_call *c) {
  char *problem = lay(o, c->in, c->in_values, s->in_count);
  if (problem == NULL)
    problem = run_values(o, s, c, s->plain);
  for (size_t i = 0; problem == NULL && i < s->out_count; i++) {
    int type = 0;
    void *info = NULL;
    c->out[i].tensor = 0;
    if ((problem = told(o, CALL(o, value_type, const void *, int *)(c->out_values[i], &type))) == NULL && type == type_tensor &&
      (problem = told(o, CALL(o, tensor_info, const void *, void **)(c->out_values[i], &info))) == NULL)
      problem = describe(o, info, c->out + i);
    if (info != NULL)
      RELEASE(o, release_tensor_info, info);
  }
  drop(o, c->in_values, s->in_count);
  drop(o, c->out_values, s->out_count);
  return problem;
}
