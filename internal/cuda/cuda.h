// The part of the CUDA driver's interface that is used, declared here so that no header of NVIDIA's is needed to build. Types and functions are
// those of CUDA 11.4 and later, which never changes what it has published.
#ifndef PICKET_CUDA_H
#define PICKET_CUDA_H

#include <stddef.h>
#include <stdint.h>

typedef int cu_result;  // 0 is success
typedef int cu_device;
typedef uint64_t cu_ptr; // an address in a device's memory
typedef struct { unsigned char bytes[16]; } cu_uuid;
typedef void *cu_handle; // of a context, stream, event, module, function

// Name in the library, return type and parameters. The names with _v2 are what the headers' plain names stand for.
#define PICKET_CUDA_FUNCTIONS(F) \
	F(cuInit, (unsigned flags)) \
	F(cuDriverGetVersion, (int *version)) \
	F(cuGetErrorName, (cu_result error, const char **name)) \
	F(cuGetErrorString, (cu_result error, const char **text)) \
	F(cuDeviceGetCount, (int *count)) \
	F(cuDeviceGet, (cu_device *device, int ordinal)) \
	F(cuDeviceGetName, (char *name, int size, cu_device device)) \
	F(cuDeviceGetUuid_v2, (cu_uuid *uuid, cu_device device)) \
	F(cuDeviceGetAttribute, (int *value, int attribute, cu_device device)) \
	F(cuDeviceTotalMem_v2, (size_t *bytes, cu_device device)) \
	F(cuDevicePrimaryCtxRetain, (cu_handle *context, cu_device device)) \
	F(cuDevicePrimaryCtxRelease_v2, (cu_device device)) \
	F(cuDevicePrimaryCtxGetState, (cu_device device, unsigned *flags, int *active)) \
	F(cuDevicePrimaryCtxSetFlags_v2, (cu_device device, unsigned flags)) \
	F(cuCtxPushCurrent_v2, (cu_handle context)) \
	F(cuCtxPopCurrent_v2, (cu_handle *context)) \
	F(cuMemGetInfo_v2, (size_t *free, size_t *total)) \
	F(cuMemAlloc_v2, (cu_ptr *at, size_t bytes)) \
	F(cuMemFree_v2, (cu_ptr at)) \
	F(cuMemHostAlloc, (void **at, size_t bytes, unsigned flags)) \
	F(cuMemFreeHost, (void *at)) \
	F(cuMemcpyHtoDAsync_v2, (cu_ptr to, const void *from, size_t bytes, cu_handle stream)) \
	F(cuMemcpyDtoHAsync_v2, (void *to, cu_ptr from, size_t bytes, cu_handle stream)) \
	F(cuStreamCreate, (cu_handle *stream, unsigned flags)) \
	F(cuStreamDestroy_v2, (cu_handle stream)) \
	F(cuStreamQuery, (cu_handle stream)) \
	F(cuStreamSynchronize, (cu_handle stream)) \
	F(cuStreamWaitEvent, (cu_handle stream, cu_handle event, unsigned flags)) \
	F(cuEventCreate, (cu_handle *event, unsigned flags)) \
	F(cuEventDestroy_v2, (cu_handle event)) \
	F(cuEventRecord, (cu_handle event, cu_handle stream)) \
	F(cuEventSynchronize, (cu_handle event)) \
	F(cuEventElapsedTime, (float *ms, cu_handle from, cu_handle to)) \
	F(cuModuleLoadDataEx, (cu_handle *module, const void *image, unsigned options, int *keys, void **values)) \
	F(cuModuleUnload, (cu_handle module)) \
	F(cuModuleGetFunction, (cu_handle *function, cu_handle module, const char *name)) \
	F(cuFuncSetAttribute, (cu_handle function, int attribute, int value)) \
	F(cuLaunchKernel, (cu_handle function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z, \
		unsigned shared, cu_handle stream, void **parameters, void **extra))

// What was found in the library.
typedef struct {
#define F(name, parameters) cu_result(*name) parameters;
	PICKET_CUDA_FUNCTIONS(F)
#undef F
} picket_cuda;

// Numbers of the interface.
enum {
	CU_MULTIPROCESSORS = 16,
	CU_SHARED_PER_BLOCK = 8,
	CU_SHARED_PER_BLOCK_OPTIN = 97,
	CU_MAJOR = 75,
	CU_MINOR = 76,
	CU_PCI_BUS = 33,
	CU_ERROR_NOT_READY = 600,
	CU_CTX_SCHED_SPIN = 1,
	CU_CTX_SCHED_BLOCKING_SYNC = 4,
	CU_STREAM_NON_BLOCKING = 1,
	CU_EVENT_BLOCKING_SYNC = 1,
	CU_EVENT_DISABLE_TIMING = 2,
	CU_HOST_PORTABLE = 1,
	CU_FUNC_MAX_DYNAMIC_SHARED = 8,
	CU_JIT_ERROR_LOG = 5,
	CU_JIT_ERROR_LOG_BYTES = 6,
};

#endif
