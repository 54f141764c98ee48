// A stand-in for a libdlr later than 1.6, of which no binary can be had. It knows
// one model, which adds up 30 numbers, and shows what the backend does where
// a library has more functions or another version; it proves nothing about libdlr.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  void *data;
  int32_t device_type, device_id, ndim;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
} tensor;

typedef struct {
  const float *in;
  float out;
} model;

const char *DLRGetLastError(void) { return "no reason"; }
int GetDLRVersion(const char **out) { return *out = VERSION, 0; }
int CreateDLRModel(void **handle, const char *path, int type, int id) { return (*handle = calloc(1, sizeof(model))) == NULL; }
int DeleteDLRModel(void **handle) { return free(*handle), 0; }
int RunDLRModel(void **handle) {
  model *m = *handle;
  if (m->in == NULL)
    return -1;
  m->out = 0;
  for (int i = 0; i < 30; i++)
    m->out += m->in[i];
  return 0;
}
int GetDLRNumInputs(void **handle, int *n) { return *n = 1, 0; }
int GetDLRNumOutputs(void **handle, int *n) { return *n = 1, 0; }
int GetDLRInputName(void **handle, int i, const char **name) { return *name = "input", 0; }
int GetDLRInputType(void **handle, int i, const char **type) { return *type = "float32", 0; }
int GetDLROutputType(void **handle, int i, const char **type) { return *type = "float32", 0; }
int GetDLRInputSizeDim(void **handle, int i, int64_t *size, int *dim) { return *size = 30, *dim = 2, 0; }
int GetDLRInputShape(void **handle, int i, int64_t *shape) { return shape[0] = 1, shape[1] = 30, 0; }
int GetDLROutputSizeDim(void **handle, int i, int64_t *size, int *dim) { return *size = OUTPUTS, *dim = 2, 0; }
int GetDLROutputShape(void **handle, int i, int64_t *shape) { return shape[0] = 1, shape[1] = 1, 0; }
int GetDLROutput(void **handle, int i, void *out) { return *(float *)out = ((model *)*handle)->out, 0; }
// Nothing but the zero-copy call may be used once it is there.
int SetDLRInput(void **handle, const char *name, const int64_t *shape, const void *data, int dim) { return -1; }
int SetDLRInputTensor(void **handle, const char *name, void *p) { return -1; }
int SetDLRInputTensorZeroCopy(void **handle, const char *name, void *p) {
  tensor *t = p;
  if ((uintptr_t)t->data % 128 != 0 || strcmp(name, "input") != 0 || t->ndim != 2 || t->shape[1] != 30 || t->code != 2 || t->bits != 32)
    return -1;
  ((model *)*handle)->in = t->data;
  return 0;
}
