// How Go calls the driver: every function of the table through its pointer, with the context current for the length of the call.
#ifndef PICKET_CUDA_CALLS_H
#define PICKET_CUDA_CALLS_H

#include "cuda.h"

picket_cuda *picket_cuda_new(void);
void picket_cuda_free(picket_cuda *c);
int picket_cuda_count(void);
const char *picket_cuda_name(int i);
void picket_cuda_set(picket_cuda *c, int i, void *address);

typedef struct {
	char name[256];
	cu_uuid uuid;
	size_t memory;
	int major, minor, processors, shared;
} picket_cuda_facts;

cu_result picket_cuInit(const picket_cuda *c);
cu_result picket_cuDriverGetVersion(const picket_cuda *c, int *version);
cu_result picket_cuGetErrorName(const picket_cuda *c, cu_result error, char **name);
cu_result picket_cuGetErrorString(const picket_cuda *c, cu_result error, char **text);
cu_result picket_cuDeviceGetCount(const picket_cuda *c, int *count);
cu_result picket_cuda_describe(const picket_cuda *c, int ordinal, picket_cuda_facts *facts);

// A device's primary context.
typedef struct {
	const picket_cuda *calls;
	cu_handle context;
	cu_device device;
	int asleep; // whoever waits for a stream sleeps, after a short look
} picket_context;

cu_result picket_retain(const picket_cuda *c, int ordinal, int asleep, picket_context *x);
cu_result picket_release(const picket_context *x);
cu_result picket_memory(const picket_context *x, size_t *free, size_t *total);
cu_result picket_alloc(const picket_context *x, size_t bytes, cu_ptr *at);
cu_result picket_free(const picket_context *x, cu_ptr at);
cu_result picket_alloc_host(const picket_context *x, size_t bytes, void **at);
cu_result picket_free_host(const picket_context *x, void *at);
cu_result picket_stream(const picket_context *x, cu_handle *stream);
cu_result picket_stream_destroy(const picket_context *x, cu_handle stream);
cu_result picket_stream_synchronize(const picket_context *x, cu_handle stream);
cu_result picket_stream_wait(const picket_context *x, cu_handle stream, cu_handle event);
cu_result picket_event(const picket_context *x, int timing, cu_handle *event);
cu_result picket_event_destroy(const picket_context *x, cu_handle event);
cu_result picket_event_record(const picket_context *x, cu_handle event, cu_handle stream);
cu_result picket_event_synchronize(const picket_context *x, cu_handle event);
cu_result picket_event_elapsed(const picket_context *x, cu_handle from, cu_handle to, float *ms);
cu_result picket_copy_in(const picket_context *x, cu_ptr to, const void *from, size_t bytes, cu_handle stream);
cu_result picket_copy_out(const picket_context *x, void *to, cu_ptr from, size_t bytes, cu_handle stream);
cu_result picket_module(const picket_context *x, const void *image, char *log, size_t log_size, cu_handle *module);
cu_result picket_module_unload(const picket_context *x, cu_handle module);
cu_result picket_function(const picket_context *x, cu_handle module, const char *name, cu_handle *function);
cu_result picket_allow_shared(const picket_context *x, cu_handle function, int bytes);
cu_result picket_launch(const picket_context *x, cu_handle function, unsigned grid, unsigned block, unsigned shared, void *parameter, cu_handle stream);

#endif
