// A stand-in for libdlr 1.10, of which no binary can be had, and for what a real one cannot be made to do: it
// fails on demand, and it can be compiled to lack functions. It computes the sum of each row of its one input.
// It proves that the binding passes arguments and results; it proves nothing about libdlr.
//
// -DSTANDIN_GENERATION=0 leaves the functions of DLR 1.0, 1 those of 1.7, 2 (the default) all of 1.10.1.

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef STANDIN_GENERATION
#define STANDIN_GENERATION 2
#endif

typedef struct {
	void *data;
	int32_t device_type, device_id, ndim;
	uint8_t code, bits;
	uint16_t lanes;
	int64_t *shape, *strides;
	uint64_t byte_offset;
} tensor;

typedef struct managed {
	tensor tensor;
	void *context;
	void (*deleter)(struct managed *);
} managed;

typedef struct {
	char made_by[256];
	int64_t rows, columns;
	float *own;
	const float *borrowed; // set by zero copy, kept
	float *sums;
} model;

static __thread char problem[512];

// Counters that the test reads: the live models and tensors, and the allocator functions that were set.
int standin_models, standin_tensors;
void *standin_malloc, *standin_free, *standin_memalign;

const char *DLRGetLastError(void) { return problem; }

static int fail(const char *text) {
	snprintf(problem, sizeof problem, "StandInError: %s :\nStack trace:\n  nowhere", text);
	return -1;
}

static int make(void **handle, const char *by, const char *path) {
	if (strstr(path, "quiet") != NULL)
		return -1; // as libdlr does: no reason
	if (strstr(path, "fail") != NULL)
		return fail("asked to fail");
	if (strstr(path, "nothing") != NULL)
		return 0;
	model *m = calloc(1, sizeof *m);
	snprintf(m->made_by, sizeof m->made_by, "%s(%s)", by, path);
	m->rows = -1;
	m->columns = 4;
	standin_models++;
	*handle = m;
	return 0;
}

int CreateDLRModel(void **handle, const char *path, int type, int id) {
	if (type != 1 || id != 0)
		return fail("wrong device");
	return make(handle, "folder", path);
}

int DeleteDLRModel(void **handle) {
	model *m = *handle;
	free(m->own);
	free(m->sums);
	free(m);
	standin_models--;
	*handle = NULL;
	return 0;
}

int RunDLRModel(void **handle) {
	model *m = *handle;
	const float *in = m->borrowed != NULL ? m->borrowed : m->own;
	if (in == NULL)
		return fail("no input");
	free(m->sums);
	m->sums = calloc(m->rows, sizeof(float));
	for (int64_t r = 0; r < m->rows; r++)
		for (int64_t c = 0; c < m->columns; c++)
			m->sums[r] += in[r * m->columns + c];
	return 0;
}

int GetDLRNumInputs(void **handle, int *n) { return *n = 1, 0; }

int GetDLRNumOutputs(void **handle, int *n) {
	if (strstr(((model *)*handle)->made_by, "uncountable") != NULL)
		return fail("cannot count");
	return *n = 1, 0;
}

int GetDLRInputName(void **handle, int i, const char **name) { return i == 0 ? (*name = "data", 0) : fail("no such input"); }

int SetDLRInput(void **handle, const char *name, const int64_t *shape, const void *data, int dim) {
	model *m = *handle;
	if (strcmp(name, "data") != 0) {
		char text[300];
		snprintf(text, sizeof text, "no input %.100s of %zu bytes", name, strlen(name));
		return fail(text);
	}
	if (dim != 2 || shape[1] != m->columns)
		return fail("wrong shape");
	m->rows = shape[0];
	free(m->own);
	size_t size = sizeof(float) * m->rows * m->columns;
	m->own = malloc(size);
	memcpy(m->own, data, size);
	return 0;
}

int GetDLROutputSizeDim(void **handle, int i, int64_t *size, int *dim) {
	model *m = *handle;
	return *size = m->rows, *dim = strstr(m->made_by, "deep") != NULL ? 1000 : 2, 0;
}

int GetDLROutputShape(void **handle, int i, int64_t *shape) { return shape[0] = ((model *)*handle)->rows, shape[1] = 1, 0; }

int GetDLROutput(void **handle, int i, void *out) {
	model *m = *handle;
	if (m->sums == NULL)
		return fail("not run");
	memcpy(out, m->sums, sizeof(float) * m->rows);
	return 0;
}

int GetDLRBackend(void **handle, const char **name) { return *name = ((model *)*handle)->made_by, 0; }

#if STANDIN_GENERATION >= 1
int GetDLRVersion(const char **out) { return *out = "1.10.1", 0; }
int GetDLRNumWeights(void **handle, int *n) { return *n = 2, 0; }
int GetDLRWeightName(void **handle, int i, const char **name) { return *name = i == 0 ? "w0" : "w1", 0; }
int GetDLRInput(void **handle, const char *name, void *out) {
	model *m = *handle;
	memcpy(out, m->own, sizeof(float) * m->rows * m->columns);
	return 0;
}
int SetDLRNumThreads(void **handle, int n) { return n == 3 ? 0 : fail("threads"); }
int UseDLRCPUAffinity(void **handle, int use) { return use == 1 ? 0 : fail("affinity"); }
int GetDLRHasMetadata(void **handle, bool *has) { return *has = true, 0; }
int GetDLRInputType(void **handle, int i, const char **type) { return *type = "float32", 0; }
int GetDLROutputType(void **handle, int i, const char **type) { return *type = "float32", 0; }
int GetDLROutputName(void **handle, int i, const char **name) { return *name = "sum", 0; }
int GetDLROutputIndex(void **handle, const char *name, int *i) { return strcmp(name, "sum") == 0 ? (*i = 0, 0) : -1; }
int GetDLROutputByName(void **handle, const char *name, void *out) {
	return strcmp(name, "sum") == 0 ? GetDLROutput(handle, 0, out) : fail("no such output");
}
int GetDLRDeviceType(const char *path) { return strstr(path, "quiet") != NULL ? -1 : 2; }
int GetDLRInputSizeDim(void **handle, int i, int64_t *size, int *dim) {
	return i == 0 ? (*size = -1, *dim = 2, 0) : fail("no such input");
}
int GetDLRInputShape(void **handle, int i, int64_t *shape) { return shape[0] = -1, shape[1] = ((model *)*handle)->columns, 0; }
int CreateDLRPipeline(void **handle, int n, const char **paths, int type, int id) {
	char all[200] = "";
	for (int i = 0; i < n; i++)
		snprintf(all + strlen(all), sizeof all - strlen(all), "%s|", paths[i]);
	return make(handle, "pipeline", all);
}
int GetDLROutputPtr(void **handle, int i, const void **out) {
	model *m = *handle;
	return m->sums != NULL ? (*out = m->sums, 0) : fail("not run");
}
typedef struct { const int type; const char *path; const void *data; const size_t size; } elem;
int CreateDLRModelFromModelElem(void **handle, const elem *e, size_t n, int type, int id) {
	char all[200] = "";
	for (size_t i = 0; i < n; i++)
		snprintf(all + strlen(all), sizeof all - strlen(all), "%d:%s:%zu|", e[i].type,
			e[i].path != NULL ? e[i].path : (const char *)e[i].data, e[i].size);
	return make(handle, "elems", all);
}
static int is_row_of_floats(const tensor *t, const model *m) {
	return t->ndim == 2 && t->shape[1] == m->columns && t->strides == NULL && t->code == 2 && t->bits == 32 && t->lanes == 1 &&
		t->device_type == 1 && t->device_id == 0;
}
int SetDLRInputTensor(void **handle, const char *name, void *p) {
	tensor *t = p;
	if (!is_row_of_floats(t, *handle))
		return fail("wrong tensor");
	return SetDLRInput(handle, name, t->shape, (char *)t->data + t->byte_offset, t->ndim);
}
int GetDLROutputTensor(void **handle, int i, void *p) { return GetDLROutput(handle, i, ((tensor *)p)->data); }
static void delete_managed(managed *t) { free(t->tensor.shape); free(t); standin_tensors--; }
int GetDLROutputManagedTensorPtr(void **handle, int i, const void **out) {
	model *m = *handle;
	managed *t = calloc(1, sizeof *t);
	t->tensor = (tensor){.data = m->sums, .device_type = 1, .ndim = 2, .code = 2, .bits = 32, .lanes = 1, .shape = calloc(2, sizeof(int64_t))};
	t->tensor.shape[0] = m->rows, t->tensor.shape[1] = 1;
	t->deleter = delete_managed;
	standin_tensors++;
	return *out = t, 0;
}
int SetDLRCustomAllocatorMalloc(void *f) { return standin_malloc = f, 0; }
int SetDLRCustomAllocatorFree(void *f) { return standin_free = f, 0; }
int SetDLRCustomAllocatorMemalign(void *f) { return standin_memalign = f, 0; }
#endif

#if STANDIN_GENERATION >= 2
int SetDLRInputTensorZeroCopy(void **handle, const char *name, void *p) {
	model *m = *handle;
	tensor *t = p;
	if (strcmp(name, "data") != 0)
		return 0; // as libdlr does
	if ((uintptr_t)t->data % 128 != 0)
		return fail("not aligned");
	if (!is_row_of_floats(t, m))
		return fail("wrong tensor");
	m->rows = t->shape[0];
	m->borrowed = t->data;
	return 0;
}
int CreateDLRModelFromHexagon(void **handle, const char *path, int level) {
	char text[200];
	snprintf(text, sizeof text, "%s,%d", path, level);
	return make(handle, "hexagon", text);
}
typedef struct { int intra, inter; struct { int grow; double fraction; } gpu; } tf2;
int CreateDLRModelFromTensorflow2(void **handle, const char *path, tf2 c) {
	char text[200];
	snprintf(text, sizeof text, "%s,%d,%d,%d,%.2f", path, c.intra, c.inter, c.gpu.grow, c.gpu.fraction);
	return make(handle, "tensorflow2", text);
}
#endif

// Allocators that count, for the test that hands them to the real libdlr.
atomic_int allocator_mallocs, allocator_aligned, allocator_frees, allocator_bad_alignment;

void *allocator_malloc(size_t size) {
	allocator_mallocs++;
	return malloc(size);
}

void *allocator_memalign(size_t alignment, size_t size) {
	allocator_aligned++;
	if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > 4096)
		allocator_bad_alignment++;
	void *p = NULL;
	return posix_memalign(&p, alignment < sizeof(void *) ? sizeof(void *) : alignment, size) == 0 ? p : NULL;
}

void allocator_free(void *p) {
	allocator_frees++;
	free(p);
}
