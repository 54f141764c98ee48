//go:build cgo && linux

#include "calls.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const names[] = {
#define F(name, parameters) #name,
	PICKET_CUDA_FUNCTIONS(F)
#undef F
};

picket_cuda *picket_cuda_new(void) {
	picket_cuda *c = calloc(1, sizeof *c);
	if (c == NULL)
		abort(); // some hundred bytes
	return c;
}

void picket_cuda_free(picket_cuda *c) { free(c); }

int picket_cuda_count(void) { return sizeof names / sizeof *names; }

const char *picket_cuda_name(int i) { return names[i]; }

// The table holds nothing but pointers to functions, in the order of the names.
void picket_cuda_set(picket_cuda *c, int i, void *address) { memcpy((char *)c + (size_t)i * sizeof(void *), &address, sizeof address); }

cu_result picket_cuInit(const picket_cuda *c) { return c->cuInit(0); }
cu_result picket_cuDriverGetVersion(const picket_cuda *c, int *version) { return c->cuDriverGetVersion(version); }
cu_result picket_cuGetErrorName(const picket_cuda *c, cu_result error, char **name) { return c->cuGetErrorName(error, (const char **)name); }
cu_result picket_cuGetErrorString(const picket_cuda *c, cu_result error, char **text) { return c->cuGetErrorString(error, (const char **)text); }
cu_result picket_cuDeviceGetCount(const picket_cuda *c, int *count) { return c->cuDeviceGetCount(count); }

cu_result picket_cuda_describe(const picket_cuda *c, int ordinal, picket_cuda_facts *f) {
	cu_device device;
	cu_result r = c->cuDeviceGet(&device, ordinal);
	if (r == 0)
		r = c->cuDeviceGetName(f->name, sizeof f->name - 1, device);
	if (r == 0)
		r = c->cuDeviceGetUuid_v2(&f->uuid, device);
	if (r == 0)
		r = c->cuDeviceTotalMem_v2(&f->memory, device);
	if (r == 0)
		r = c->cuDeviceGetAttribute(&f->major, CU_MAJOR, device);
	if (r == 0)
		r = c->cuDeviceGetAttribute(&f->minor, CU_MINOR, device);
	if (r == 0)
		r = c->cuDeviceGetAttribute(&f->processors, CU_MULTIPROCESSORS, device);
	if (r == 0)
		r = c->cuDeviceGetAttribute(&f->shared, CU_SHARED_PER_BLOCK_OPTIN, device);
	return r;
}

cu_result picket_retain(const picket_cuda *c, int ordinal, int asleep, picket_context *x) {
	x->calls = c;
	x->asleep = asleep;
	cu_result r = c->cuDeviceGet(&x->device, ordinal);
	unsigned flags;
	int active = 0;
	if (r == 0)
		r = c->cuDevicePrimaryCtxGetState(x->device, &flags, &active);
	// Whoever was here first has decided.
	if (r == 0 && !active)
		r = c->cuDevicePrimaryCtxSetFlags_v2(x->device, asleep ? CU_CTX_SCHED_BLOCKING_SYNC : CU_CTX_SCHED_SPIN);
	if (r == 0)
		r = c->cuDevicePrimaryCtxRetain(&x->context, x->device);
	return r;
}

cu_result picket_release(const picket_context *x) { return x->calls->cuDevicePrimaryCtxRelease_v2(x->device); }

// Makes a call with the context current, and then what was.
#define WITH(call) \
	do { \
		cu_handle before_; \
		cu_result pushed_ = x->calls->cuCtxPushCurrent_v2(x->context); \
		if (pushed_ != 0) \
			return pushed_; \
		cu_result result_ = x->calls->call; \
		x->calls->cuCtxPopCurrent_v2(&before_); \
		return result_; \
	} while (0)

cu_result picket_memory(const picket_context *x, size_t *free, size_t *total) { WITH(cuMemGetInfo_v2(free, total)); }
cu_result picket_alloc(const picket_context *x, size_t bytes, cu_ptr *at) { WITH(cuMemAlloc_v2(at, bytes)); }
cu_result picket_free(const picket_context *x, cu_ptr at) { WITH(cuMemFree_v2(at)); }
cu_result picket_alloc_host(const picket_context *x, size_t bytes, void **at) { WITH(cuMemHostAlloc(at, bytes, CU_HOST_PORTABLE)); }
cu_result picket_free_host(const picket_context *x, void *at) { WITH(cuMemFreeHost(at)); }
cu_result picket_stream(const picket_context *x, cu_handle *stream) { WITH(cuStreamCreate(stream, CU_STREAM_NON_BLOCKING)); }
cu_result picket_stream_destroy(const picket_context *x, cu_handle stream) { WITH(cuStreamDestroy_v2(stream)); }

// How long a stream is looked at before its thread sleeps: what waking it costs on a virtual machine, so that at worst it costs that twice.
enum { LOOK_NS = 60000 };

static int64_t now_ns(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static cu_result wait_for(const picket_cuda *c, cu_handle stream, int asleep) {
	for (int64_t until = asleep ? now_ns() + LOOK_NS : 0; asleep && now_ns() < until;) {
		cu_result r = c->cuStreamQuery(stream);
		if (r != CU_ERROR_NOT_READY)
			return r;
	}
	return c->cuStreamSynchronize(stream);
}

cu_result picket_stream_synchronize(const picket_context *x, cu_handle stream) {
	cu_handle before;
	cu_result r = x->calls->cuCtxPushCurrent_v2(x->context);
	if (r != 0)
		return r;
	r = wait_for(x->calls, stream, x->asleep);
	x->calls->cuCtxPopCurrent_v2(&before);
	return r;
}

cu_result picket_stream_wait(const picket_context *x, cu_handle stream, cu_handle event) { WITH(cuStreamWaitEvent(stream, event, 0)); }
cu_result picket_event(const picket_context *x, int timing, cu_handle *event) {
	WITH(cuEventCreate(event, CU_EVENT_BLOCKING_SYNC | (timing ? 0u : CU_EVENT_DISABLE_TIMING)));
}
cu_result picket_event_destroy(const picket_context *x, cu_handle event) { WITH(cuEventDestroy_v2(event)); }
cu_result picket_event_record(const picket_context *x, cu_handle event, cu_handle stream) { WITH(cuEventRecord(event, stream)); }
cu_result picket_event_synchronize(const picket_context *x, cu_handle event) { WITH(cuEventSynchronize(event)); }
cu_result picket_event_elapsed(const picket_context *x, cu_handle from, cu_handle to, float *ms) { WITH(cuEventElapsedTime(ms, from, to)); }
cu_result picket_copy_in(const picket_context *x, cu_ptr to, const void *from, size_t bytes, cu_handle stream) {
	WITH(cuMemcpyHtoDAsync_v2(to, from, bytes, stream));
}
cu_result picket_copy_out(const picket_context *x, void *to, cu_ptr from, size_t bytes, cu_handle stream) {
	WITH(cuMemcpyDtoHAsync_v2(to, from, bytes, stream));
}

cu_result picket_module(const picket_context *x, const void *image, char *log, size_t log_size, cu_handle *module) {
	int keys[] = {CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BYTES};
	void *values[] = {log, (void *)(uintptr_t)log_size};
	WITH(cuModuleLoadDataEx(module, image, 2, keys, values));
}

cu_result picket_module_unload(const picket_context *x, cu_handle module) { WITH(cuModuleUnload(module)); }
cu_result picket_function(const picket_context *x, cu_handle module, const char *name, cu_handle *function) {
	WITH(cuModuleGetFunction(function, module, name));
}
cu_result picket_allow_shared(const picket_context *x, cu_handle function, int bytes) {
	WITH(cuFuncSetAttribute(function, CU_FUNC_MAX_DYNAMIC_SHARED, bytes));
}

cu_result picket_launch(const picket_context *x, cu_handle function, unsigned grid, unsigned block, unsigned shared, void *parameter, cu_handle stream) {
	void *parameters[] = {parameter};
	WITH(cuLaunchKernel(function, grid, 1, 1, block, 1, 1, shared, stream, parameters, NULL));
}
