// What this package declares of libdlr's C API, and the calls that cross from Go to C.
//
// The declarations are our own, written from the documented signatures of DLR 1.0 to 1.10: libdlr is opened at run time,
// so none of its headers is needed to build. Every shim below makes one call and, if it fails, reads the reason before
// it returns: libdlr keeps it per thread, and a goroutine may be on another thread at its next call.

#ifndef PICKET_CDLR_SHIM_H
#define PICKET_CDLR_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// An element of a model for CreateDLRModelFromModelElem.
typedef struct {
	int type;
	const char *path;
	const void *data;
	size_t size;
} picket_elem;

// DLTensor and DLManagedTensor of DLPack 0.x, which all versions of libdlr use.
typedef struct {
	void *data;
	int32_t device_type;
	int32_t device_id;
	int32_t ndim;
	uint8_t code;
	uint8_t bits;
	uint16_t lanes;
	int64_t *shape;
	int64_t *strides;
	uint64_t byte_offset;
} picket_tensor;

typedef struct picket_managed_tensor {
	picket_tensor tensor;
	void *context;
	void (*deleter)(struct picket_managed_tensor *);
} picket_managed_tensor;

// The configuration of CreateDLRModelFromTensorflow2, which takes it by value.
typedef struct {
	int intra_op_threads;
	int inter_op_threads;
	struct {
		int allow_growth;
		double memory_fraction;
	} gpu;
} picket_tensorflow2;

// Every function of the API: F(name, arguments). All return int except DLRGetLastError.
#define PICKET_DLR_FUNCTIONS(F) \
	F(CreateDLRModel, (void **, const char *, int, int)) \
	F(CreateDLRModelFromModelElem, (void **, const picket_elem *, size_t, int, int)) \
	F(CreateDLRModelFromHexagon, (void **, const char *, int)) \
	F(CreateDLRModelFromTensorflow2, (void **, const char *, picket_tensorflow2)) \
	F(CreateDLRPipeline, (void **, int, const char **, int, int)) \
	F(DeleteDLRModel, (void **)) \
	F(RunDLRModel, (void **)) \
	F(GetDLRNumInputs, (void **, int *)) \
	F(GetDLRNumOutputs, (void **, int *)) \
	F(GetDLRNumWeights, (void **, int *)) \
	F(GetDLRInputName, (void **, int, const char **)) \
	F(GetDLRInputType, (void **, int, const char **)) \
	F(GetDLRWeightName, (void **, int, const char **)) \
	F(GetDLRInputSizeDim, (void **, int, int64_t *, int *)) \
	F(GetDLRInputShape, (void **, int, int64_t *)) \
	F(SetDLRInput, (void **, const char *, const int64_t *, const void *, int)) \
	F(SetDLRInputTensor, (void **, const char *, void *)) \
	F(SetDLRInputTensorZeroCopy, (void **, const char *, void *)) \
	F(GetDLRInput, (void **, const char *, void *)) \
	F(GetDLROutputSizeDim, (void **, int, int64_t *, int *)) \
	F(GetDLROutputShape, (void **, int, int64_t *)) \
	F(GetDLROutput, (void **, int, void *)) \
	F(GetDLROutputPtr, (void **, int, const void **)) \
	F(GetDLROutputTensor, (void **, int, void *)) \
	F(GetDLROutputManagedTensorPtr, (void **, int, const void **)) \
	F(GetDLROutputType, (void **, int, const char **)) \
	F(GetDLROutputName, (void **, int, const char **)) \
	F(GetDLROutputIndex, (void **, const char *, int *)) \
	F(GetDLROutputByName, (void **, const char *, void *)) \
	F(GetDLRHasMetadata, (void **, bool *)) \
	F(GetDLRBackend, (void **, const char **)) \
	F(GetDLRDeviceType, (const char *)) \
	F(GetDLRVersion, (const char **)) \
	F(SetDLRNumThreads, (void **, int)) \
	F(UseDLRCPUAffinity, (void **, int)) \
	F(SetDLRCustomAllocatorMalloc, (void *(*)(size_t))) \
	F(SetDLRCustomAllocatorFree, (void (*)(void *))) \
	F(SetDLRCustomAllocatorMemalign, (void *(*)(size_t, size_t)))

// An opened libdlr: the loader's handle and the functions it has; a function it lacks is NULL.
typedef struct {
	void *handle;
	const char *(*DLRGetLastError)(void);
#define PICKET_DLR_MEMBER(name, arguments) int(*name) arguments;
	PICKET_DLR_FUNCTIONS(PICKET_DLR_MEMBER)
#undef PICKET_DLR_MEMBER
} picket_dlr;

// Results. problem is NULL on success, and on success only; else a text that the caller gives to picket_dlr_free_text, empty if
// libdlr gave no reason.
typedef struct { char *problem; picket_dlr *library; } picket_library;
typedef struct { char *problem; void *value; } picket_pointer;
typedef struct { char *problem; const char *value; } picket_text;
typedef struct { char *problem; int value; } picket_int;
typedef struct { char *problem; int64_t size; int dim; } picket_size;

picket_library picket_dlr_open(const char *path);
void picket_dlr_close(picket_dlr *);
void *picket_dlr_symbol(const picket_dlr *, const char *name);
char *picket_dlr_last_error(const picket_dlr *); // for picket_dlr_free_text
void picket_dlr_free_text(char *);

picket_pointer picket_dlr_create(const picket_dlr *, const char *path, int device_type, int device_id);
picket_pointer picket_dlr_create_elems(const picket_dlr *, const picket_elem *, size_t count, int device_type, int device_id);
picket_pointer picket_dlr_create_hexagon(const picket_dlr *, const char *path, int debug_level);
picket_pointer picket_dlr_create_tensorflow2(const picket_dlr *, const char *path, picket_tensorflow2);
picket_pointer picket_dlr_create_pipeline(const picket_dlr *, int count, const char **paths, int device_type, int device_id);
char *picket_dlr_delete(const picket_dlr *, void *model);
char *picket_dlr_run(const picket_dlr *, void *model);

// A name is a pointer and a length, not terminated, and read during the call only.
char *picket_dlr_set_input(const picket_dlr *, void *model, const char *name, size_t length, const int64_t *shape, const void *data, int dim);
char *picket_dlr_set_input_tensor(const picket_dlr *, void *model, const char *name, size_t length, picket_tensor, const int64_t *shape);
char *picket_dlr_set_input_zero_copy(const picket_dlr *, void *model, const char *name, size_t length, picket_tensor, const int64_t *shape);
char *picket_dlr_input(const picket_dlr *, void *model, const char *name, size_t length, void *data);
char *picket_dlr_output_by_name(const picket_dlr *, void *model, const char *name, size_t length, void *data);
picket_int picket_dlr_output_index(const picket_dlr *, void *model, const char *name, size_t length);

picket_int picket_dlr_num_inputs(const picket_dlr *, void *model);
picket_int picket_dlr_num_outputs(const picket_dlr *, void *model);
picket_int picket_dlr_num_weights(const picket_dlr *, void *model);
picket_text picket_dlr_input_name(const picket_dlr *, void *model, int index);
picket_text picket_dlr_input_type(const picket_dlr *, void *model, int index);
picket_text picket_dlr_weight_name(const picket_dlr *, void *model, int index);
picket_text picket_dlr_output_type(const picket_dlr *, void *model, int index);
picket_text picket_dlr_output_name(const picket_dlr *, void *model, int index);
picket_size picket_dlr_input_size(const picket_dlr *, void *model, int index);
picket_size picket_dlr_output_size(const picket_dlr *, void *model, int index);
char *picket_dlr_input_shape(const picket_dlr *, void *model, int index, int64_t *shape);
char *picket_dlr_output_shape(const picket_dlr *, void *model, int index, int64_t *shape);
char *picket_dlr_output(const picket_dlr *, void *model, int index, void *data);
picket_pointer picket_dlr_output_pointer(const picket_dlr *, void *model, int index);
char *picket_dlr_output_tensor(const picket_dlr *, void *model, int index, picket_tensor, const int64_t *shape);
picket_pointer picket_dlr_output_managed_tensor(const picket_dlr *, void *model, int index);
void picket_dlr_delete_managed_tensor(void *);

picket_int picket_dlr_has_metadata(const picket_dlr *, void *model);
picket_text picket_dlr_backend(const picket_dlr *, void *model);
char *picket_dlr_set_num_threads(const picket_dlr *, void *model, int threads);
char *picket_dlr_use_cpu_affinity(const picket_dlr *, void *model, int use);

picket_int picket_dlr_device_type(const picket_dlr *, const char *path);
picket_text picket_dlr_version(const picket_dlr *);
char *picket_dlr_set_malloc(const picket_dlr *, void *function);
char *picket_dlr_set_free(const picket_dlr *, void *function);
char *picket_dlr_set_memalign(const picket_dlr *, void *function);

#endif
