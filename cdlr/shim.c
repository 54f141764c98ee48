//go:build cgo && linux

#define _GNU_SOURCE
#include "shim.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

// What a problem says when there is no memory to say more. NULL would mean success, and the last caller's answer would
// be taken for this one's.
static char no_memory[] = "there was no memory left, not even for the reason";

// problem_of returns a copy of text for picket_dlr_free_text; never NULL.
static char *problem_of(const char *text) {
	char *copy = strdup(text);
	return copy != NULL ? copy : no_memory;
}

void picket_dlr_free_text(char *text) {
	if (text != no_memory)
		free(text);
}

// last_error returns a copy of this thread's last error.
static char *last_error(const picket_dlr *dlr) {
	const char *text = dlr->DLRGetLastError();
	return problem_of(text != NULL ? text : "");
}

// failed turns a function's answer into a problem: NULL for 0, else the reason.
static char *failed(const picket_dlr *dlr, int rc) {
	return rc == 0 ? NULL : last_error(dlr);
}

// Some functions (those that create a model, and those that look names up in the metadata) log their reason to
// standard error and return -1 without setting the last error. What stands there then belongs to an earlier call. So
// for these the text from before the call is kept, and counts as no reason if it has not changed.
static char *failed_quietly(const picket_dlr *dlr, int rc, char *before) {
	char *problem = NULL;
	if (rc != 0) {
		problem = last_error(dlr);
		if (problem != no_memory && strcmp(problem, before) == 0)
			problem[0] = '\0';
	}
	picket_dlr_free_text(before);
	return problem;
}

// A terminated copy of a name: Go strings carry a length instead. Short names, which all are, stay on the stack.
typedef struct {
	char small[120];
	char *text;
} terminated;

static bool terminate(terminated *name, const char *text, size_t length) {
	name->text = length < sizeof name->small ? name->small : malloc(length + 1);
	if (name->text == NULL)
		return false;
	if (length > 0)
		memcpy(name->text, text, length);
	name->text[length] = '\0';
	return true;
}

static void forget(terminated *name) {
	if (name->text != name->small)
		free(name->text);
}

picket_library picket_dlr_open(const char *path) {
	picket_library result = {NULL, NULL};
	dlerror();
	// RTLD_NODELETE: libdlr leaves threads of its pools behind when a model is deleted, and they run its code. Unmapping
	// it under them would end the process. So it stays, whatever its reference count says.
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (handle == NULL) {
		const char *text = dlerror();
		result.problem = problem_of(text != NULL ? text : "the loader gave no reason");
		return result;
	}
	picket_dlr *dlr = calloc(1, sizeof *dlr);
	if (dlr == NULL) {
		dlclose(handle);
		result.problem = no_memory;
		return result;
	}
	dlr->handle = handle;
	dlr->DLRGetLastError = (const char *(*)(void))dlsym(handle, "DLRGetLastError");
#define LOOK_UP(name, arguments) dlr->name = (int(*) arguments)dlsym(handle, #name);
	PICKET_DLR_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
	result.library = dlr;
	return result;
}

void picket_dlr_close(picket_dlr *dlr) {
	dlclose(dlr->handle);
	free(dlr);
}

void *picket_dlr_symbol(const picket_dlr *dlr, const char *name) { return dlsym(dlr->handle, name); }

char *picket_dlr_last_error(const picket_dlr *dlr) { return last_error(dlr); }

picket_pointer picket_dlr_create(const picket_dlr *dlr, const char *path, int device_type, int device_id) {
	picket_pointer result = {NULL, NULL};
	char *before = last_error(dlr);
	int rc = dlr->CreateDLRModel(&result.value, path, device_type, device_id);
	result.problem = failed_quietly(dlr, rc, before);
	return result;
}

picket_pointer picket_dlr_create_elems(const picket_dlr *dlr, const picket_elem *elems, size_t count, int device_type, int device_id) {
	picket_pointer result = {NULL, NULL};
	char *before = last_error(dlr);
	int rc = dlr->CreateDLRModelFromModelElem(&result.value, elems, count, device_type, device_id);
	result.problem = failed_quietly(dlr, rc, before);
	return result;
}

picket_pointer picket_dlr_create_hexagon(const picket_dlr *dlr, const char *path, int debug_level) {
	picket_pointer result = {NULL, NULL};
	char *before = last_error(dlr);
	int rc = dlr->CreateDLRModelFromHexagon(&result.value, path, debug_level);
	result.problem = failed_quietly(dlr, rc, before);
	return result;
}

picket_pointer picket_dlr_create_tensorflow2(const picket_dlr *dlr, const char *path, picket_tensorflow2 config) {
	picket_pointer result = {NULL, NULL};
	char *before = last_error(dlr);
	int rc = dlr->CreateDLRModelFromTensorflow2(&result.value, path, config);
	result.problem = failed_quietly(dlr, rc, before);
	return result;
}

picket_pointer picket_dlr_create_pipeline(const picket_dlr *dlr, int count, const char **paths, int device_type, int device_id) {
	picket_pointer result = {NULL, NULL};
	char *before = last_error(dlr);
	int rc = dlr->CreateDLRPipeline(&result.value, count, paths, device_type, device_id);
	result.problem = failed_quietly(dlr, rc, before);
	return result;
}

char *picket_dlr_delete(const picket_dlr *dlr, void *model) { return failed(dlr, dlr->DeleteDLRModel(&model)); }

char *picket_dlr_run(const picket_dlr *dlr, void *model) { return failed(dlr, dlr->RunDLRModel(&model)); }

char *picket_dlr_set_input(const picket_dlr *dlr, void *model, const char *name, size_t length, const int64_t *shape, const void *data, int dim) {
	terminated t;
	if (!terminate(&t, name, length))
		return no_memory;
	char *problem = failed(dlr, dlr->SetDLRInput(&model, t.text, shape, data, dim));
	forget(&t);
	return problem;
}

// The shape is Go's memory for the call. libdlr only reads it, although DLTensor has no const, and keeps no pointer to it.
char *picket_dlr_set_input_tensor(const picket_dlr *dlr, void *model, const char *name, size_t length, picket_tensor tensor, const int64_t *shape) {
	terminated t;
	if (!terminate(&t, name, length))
		return no_memory;
	tensor.shape = (int64_t *)shape;
	char *problem = failed(dlr, dlr->SetDLRInputTensor(&model, t.text, &tensor));
	forget(&t);
	return problem;
}

char *picket_dlr_set_input_zero_copy(const picket_dlr *dlr, void *model, const char *name, size_t length, picket_tensor tensor, const int64_t *shape) {
	terminated t;
	if (!terminate(&t, name, length))
		return no_memory;
	tensor.shape = (int64_t *)shape;
	char *problem = failed(dlr, dlr->SetDLRInputTensorZeroCopy(&model, t.text, &tensor));
	forget(&t);
	return problem;
}

char *picket_dlr_input(const picket_dlr *dlr, void *model, const char *name, size_t length, void *data) {
	terminated t;
	if (!terminate(&t, name, length))
		return no_memory;
	char *problem = failed(dlr, dlr->GetDLRInput(&model, t.text, data));
	forget(&t);
	return problem;
}

char *picket_dlr_output_by_name(const picket_dlr *dlr, void *model, const char *name, size_t length, void *data) {
	terminated t;
	if (!terminate(&t, name, length))
		return no_memory;
	char *problem = failed(dlr, dlr->GetDLROutputByName(&model, t.text, data));
	forget(&t);
	return problem;
}

picket_int picket_dlr_output_index(const picket_dlr *dlr, void *model, const char *name, size_t length) {
	picket_int result = {NULL, -1};
	terminated t;
	if (!terminate(&t, name, length)) {
		result.problem = no_memory;
		return result;
	}
	char *before = last_error(dlr);
	int rc = dlr->GetDLROutputIndex(&model, t.text, &result.value);
	result.problem = failed_quietly(dlr, rc, before);
	forget(&t);
	return result;
}

#define COUNT(shim, function) \
	picket_int shim(const picket_dlr *dlr, void *model) { \
		picket_int result = {NULL, 0}; \
		result.problem = failed(dlr, dlr->function(&model, &result.value)); \
		return result; \
	}
COUNT(picket_dlr_num_inputs, GetDLRNumInputs)
COUNT(picket_dlr_num_outputs, GetDLRNumOutputs)
COUNT(picket_dlr_num_weights, GetDLRNumWeights)

// The text belongs to the model and lives as long as it.
#define TEXT(shim, function) \
	picket_text shim(const picket_dlr *dlr, void *model, int index) { \
		picket_text result = {NULL, NULL}; \
		char *before = last_error(dlr); \
		int rc = dlr->function(&model, index, &result.value); \
		result.problem = failed_quietly(dlr, rc, before); \
		return result; \
	}
TEXT(picket_dlr_input_name, GetDLRInputName)
TEXT(picket_dlr_input_type, GetDLRInputType)
TEXT(picket_dlr_weight_name, GetDLRWeightName)
TEXT(picket_dlr_output_type, GetDLROutputType)
TEXT(picket_dlr_output_name, GetDLROutputName)

#define SIZE(shim, function) \
	picket_size shim(const picket_dlr *dlr, void *model, int index) { \
		picket_size result = {NULL, 0, 0}; \
		result.problem = failed(dlr, dlr->function(&model, index, &result.size, &result.dim)); \
		return result; \
	}
SIZE(picket_dlr_input_size, GetDLRInputSizeDim)
SIZE(picket_dlr_output_size, GetDLROutputSizeDim)

char *picket_dlr_input_shape(const picket_dlr *dlr, void *model, int index, int64_t *shape) {
	return failed(dlr, dlr->GetDLRInputShape(&model, index, shape));
}

char *picket_dlr_output_shape(const picket_dlr *dlr, void *model, int index, int64_t *shape) {
	return failed(dlr, dlr->GetDLROutputShape(&model, index, shape));
}

char *picket_dlr_output(const picket_dlr *dlr, void *model, int index, void *data) {
	return failed(dlr, dlr->GetDLROutput(&model, index, data));
}

picket_pointer picket_dlr_output_pointer(const picket_dlr *dlr, void *model, int index) {
	picket_pointer result = {NULL, NULL};
	const void *data = NULL;
	result.problem = failed(dlr, dlr->GetDLROutputPtr(&model, index, &data));
	result.value = (void *)data;
	return result;
}

char *picket_dlr_output_tensor(const picket_dlr *dlr, void *model, int index, picket_tensor tensor, const int64_t *shape) {
	tensor.shape = (int64_t *)shape;
	return failed(dlr, dlr->GetDLROutputTensor(&model, index, &tensor));
}

picket_pointer picket_dlr_output_managed_tensor(const picket_dlr *dlr, void *model, int index) {
	picket_pointer result = {NULL, NULL};
	const void *tensor = NULL;
	result.problem = failed(dlr, dlr->GetDLROutputManagedTensorPtr(&model, index, &tensor));
	result.value = (void *)tensor;
	return result;
}

void picket_dlr_delete_managed_tensor(void *tensor) {
	picket_managed_tensor *managed = tensor;
	if (managed->deleter != NULL)
		managed->deleter(managed);
}

picket_int picket_dlr_has_metadata(const picket_dlr *dlr, void *model) {
	picket_int result = {NULL, 0};
	bool has = false;
	result.problem = failed(dlr, dlr->GetDLRHasMetadata(&model, &has));
	result.value = has;
	return result;
}

picket_text picket_dlr_backend(const picket_dlr *dlr, void *model) {
	picket_text result = {NULL, NULL};
	result.problem = failed(dlr, dlr->GetDLRBackend(&model, &result.value));
	return result;
}

char *picket_dlr_set_num_threads(const picket_dlr *dlr, void *model, int threads) {
	return failed(dlr, dlr->SetDLRNumThreads(&model, threads));
}

char *picket_dlr_use_cpu_affinity(const picket_dlr *dlr, void *model, int use) {
	return failed(dlr, dlr->UseDLRCPUAffinity(&model, use));
}

picket_int picket_dlr_device_type(const picket_dlr *dlr, const char *path) {
	picket_int result = {NULL, 0};
	char *before = last_error(dlr);
	result.value = dlr->GetDLRDeviceType(path);
	result.problem = failed_quietly(dlr, result.value == -1 ? -1 : 0, before);
	return result;
}

picket_text picket_dlr_version(const picket_dlr *dlr) {
	picket_text result = {NULL, NULL};
	result.problem = failed(dlr, dlr->GetDLRVersion(&result.value));
	return result;
}

char *picket_dlr_set_malloc(const picket_dlr *dlr, void *function) {
	return failed(dlr, dlr->SetDLRCustomAllocatorMalloc((void *(*)(size_t))function));
}

char *picket_dlr_set_free(const picket_dlr *dlr, void *function) {
	return failed(dlr, dlr->SetDLRCustomAllocatorFree((void (*)(void *))function));
}

char *picket_dlr_set_memalign(const picket_dlr *dlr, void *function) {
	return failed(dlr, dlr->SetDLRCustomAllocatorMemalign((void *(*)(size_t, size_t))function));
}
