// A libcuda.so.1 without a GPU, for faults that no real one can be made to show, and so that the code on the host's side is tested on any
// machine. Device memory is main memory; kernels are those of backends/cuda, compiled as plain C. What is put into a stream is done as late
// as it may be, when somebody waits for it, so that whoever takes memory back too early is found out. Environment:
//
//	FAKE_CUDA_FAIL     call:n:code:id, the n-th call of that name (cuMemAlloc_v2, ...; kernel for a kernel when it runs) answers code
//	FAKE_CUDA_LOG      a file that gets a line for what is put into a stream, and for what is waited for
//	FAKE_CUDA_MEMORY   bytes of a device; FAKE_CUDA_DEVICES how many; FAKE_CUDA_VERSION; FAKE_CUDA_MIG=1 for parts of a GPU
#define _GNU_SOURCE
#include "../../cuda.h"
#include KERNELS
#undef run

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { OUT_OF_MEMORY = 2, INVALID_VALUE = 1, INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600,
	ILLEGAL_ADDRESS = 700, INVALID_CONTEXT = 201 };
enum { DEVICES = 8, OPS = 4096, RANGES = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

typedef struct { uint8_t *at; size_t n; int pinned; int device; } range;
static range ranges[RANGES];

typedef struct stream stream;
typedef struct event { stream *of; uint64_t number; double at; } event;
typedef struct {
	enum { IN, OUT, LAUNCH, RECORD, WAIT } kind;
	uint8_t *to;
	const uint8_t *from;
	uint8_t *owned; // a copy of pageable memory
	size_t n;
	void (*kernel)(const picket_run *, uint32_t, uint8_t *);
	picket_run parameter;
	unsigned grid, shared;
	event *e;
	stream *of;
	uint64_t number;
} op;
typedef struct { op ops[OPS]; int n; } list;
struct stream { list todo; int done, id, device; uint64_t recorded, reached; };

static struct { int held, lost; size_t used; } devices[DEVICES];
static __thread int stack[16], depth;
static int streams;

static long setting(const char *name, long otherwise) {
	const char *text = getenv(name);
	return text != NULL && *text ? atol(text) : otherwise;
}

static void note(const char *what, int stream_id, size_t n) {
	const char *name = getenv("FAKE_CUDA_LOG");
	if (name == NULL || !*name)
		return;
	FILE *f = fopen(name, "a");
	if (f == NULL)
		abort();
	fprintf(f, "%s %d %zu\n", what, stream_id, n);
	fclose(f);
}

// Whether this call is to fail, and with what.
static int fails(const char *call) {
	static char seen[128];
	static int calls;
	const char *wish = getenv("FAKE_CUDA_FAIL");
	if (wish == NULL || strncmp(wish, call, strlen(call)) != 0 || wish[strlen(call)] != ':')
		return 0;
	if (strcmp(seen, wish) != 0) {
		snprintf(seen, sizeof seen, "%s", wish);
		calls = 0;
	}
	int at = 0, code = 0;
	sscanf(wish + strlen(call), ":%d:%d", &at, &code);
	return ++calls == at ? code : 0;
}

// After these the context answers nothing else.
static int sticky(int code) { return code == 46 || code == 214 || (code >= 700 && code <= 719 && code != 701 && code != 704 && code != 705); }

#define ENTER(call) \
	pthread_mutex_lock(&lock); \
	int result = fails(call); \
	if (result != 0) { \
		if (sticky(result) && depth > 0) \
			devices[stack[depth - 1]].lost = result; \
		LEAVE; \
	}
#define LEAVE \
	do { \
		pthread_mutex_unlock(&lock); \
		return result; \
	} while (0)
// For calls that need a context.
#define ENTER_CONTEXT(call) \
	ENTER(call) \
	if (depth == 0 || !devices[stack[depth - 1]].held) \
		result = INVALID_CONTEXT; \
	else \
		result = devices[stack[depth - 1]].lost; \
	if (result != 0) \
		LEAVE;
#define HERE stack[depth - 1]

static range *find(const void *at, size_t n) {
	for (int i = 0; i < RANGES; i++)
		if (ranges[i].at != NULL && (const uint8_t *)at >= ranges[i].at && (const uint8_t *)at + n <= ranges[i].at + ranges[i].n)
			return &ranges[i];
	return NULL;
}

// Memory behind which there is none: whoever looks past the end, by as little as the alignment allows, finds a hole.
static size_t pages(size_t n, size_t align, size_t *before) {
	size_t page = (size_t)sysconf(_SC_PAGESIZE), all = (n + page) / page * page;
	*before = (all - n) / align * align;
	return all;
}

static void *guarded(size_t n, size_t align) {
	size_t before, all = pages(n, align, &before), page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *at = mmap(NULL, all + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return NULL;
	mprotect(at + all, page, PROT_NONE);
	return at + before;
}

static void unguarded(void *at, size_t n, size_t align) {
	size_t before, all = pages(n, align, &before);
	munmap((uint8_t *)at - before, all + (size_t)sysconf(_SC_PAGESIZE));
}

// What a driver aligns memory to at least.
enum { ALIGNED = 256 };

static int take(size_t n, int pinned, int device, void **at) {
	for (int i = 0; i < RANGES; i++)
		if (ranges[i].at == NULL) {
			if ((*at = guarded(n, ALIGNED)) == NULL)
				return OUT_OF_MEMORY;
			memset(*at, 0xa5, n); // nobody may count on zeros
			ranges[i] = (range){*at, n, pinned, device};
			return 0;
		}
	return OUT_OF_MEMORY;
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void advance(stream *s, int until);

// Does what an op says.
static int perform(stream *s, op *o) {
	switch (o->kind) {
	case IN:
	case OUT:
		if (find(o->kind == IN ? (const void *)o->to : o->from, o->n) == NULL)
			return ILLEGAL_ADDRESS;
		memcpy(o->to, o->from, o->n);
		free(o->owned);
		break;
	case LAUNCH: {
		int code = fails("kernel");
		if (code != 0)
			return code;
		// What is neither of the device nor pinned no kernel can reach.
		const void *reached[] = {(const void *)o->parameter.nodes, o->parameter.in, o->parameter.margins, o->parameter.out};
		for (unsigned i = 0; i < sizeof reached / sizeof *reached; i++)
			if (find(reached[i], 1) == NULL)
				return ILLEGAL_ADDRESS;
		uint8_t *shared = guarded(o->shared, 16);
		if (shared == NULL)
			return OUT_OF_MEMORY;
		for (unsigned b = 0; b < o->grid; b++) {
			memset(shared, 0x5a, o->shared);
			o->kernel(&o->parameter, b, shared);
		}
		unguarded(shared, o->shared, 16);
		break;
	}
	case RECORD:
		s->reached = o->number;
		o->e->at = now();
		break;
	case WAIT:
		while (o->of->reached < o->number && o->of->done < o->of->todo.n)
			advance(o->of, o->of->done + 1);
		break;
	}
	return 0;
}

static void advance(stream *s, int until) {
	while (s->done < until && s->done < s->todo.n) {
		op o = s->todo.ops[s->done++];
		if (!devices[s->device].lost) {
			int code = perform(s, &o);
			if (code != 0)
				devices[s->device].lost = code;
		}
		if (o.kind == RECORD)
			s->reached = o.number; // a lost device has nobody wait
	}
	if (s->done == s->todo.n)
		s->done = s->todo.n = 0;
}

static int put(stream *s, op o, const char *what) {
	list *to = &s->todo;
	if (to->n == OPS)
		return OUT_OF_MEMORY;
	to->ops[to->n++] = o;
	note(what, s->id, o.n);
	return 0;
}

cu_result cuInit(unsigned flags) {
	(void)flags;
	ENTER("cuInit")
	LEAVE;
}

cu_result cuDriverGetVersion(int *version) {
	*version = (int)setting("FAKE_CUDA_VERSION", 12040);
	return 0;
}

cu_result cuGetErrorName(cu_result error, const char **name) {
	*name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : error == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR_OF_THE_FAKE";
	return 0;
}

cu_result cuGetErrorString(cu_result error, const char **text) {
	static __thread char words[64];
	snprintf(words, sizeof words, error == OUT_OF_MEMORY ? "out of memory" : "fake error %d", error);
	*text = words;
	return 0;
}

cu_result cuDeviceGetCount(int *count) {
	ENTER("cuDeviceGetCount")
	*count = (int)setting("FAKE_CUDA_DEVICES", 1);
	LEAVE;
}

cu_result cuDeviceGet(cu_device *device, int ordinal) {
	ENTER("cuDeviceGet")
	*device = ordinal;
	if (ordinal < 0 || ordinal >= setting("FAKE_CUDA_DEVICES", 1))
		result = INVALID_DEVICE;
	LEAVE;
}

cu_result cuDeviceGetName(char *name, int size, cu_device device) {
	(void)device;
	snprintf(name, (size_t)size, setting("FAKE_CUDA_MIG", 0) ? "Fake GPU MIG 1g.5gb" : "Fake GPU");
	return 0;
}

cu_result cuDeviceGetUuid_v2(cu_uuid *uuid, cu_device device) {
	memset(uuid, 0, sizeof *uuid);
	uuid->bytes[0] = 0xfa;
	uuid->bytes[15] = (unsigned char)device;
	return 0;
}

cu_result cuDeviceGetAttribute(int *value, int attribute, cu_device device) {
	(void)device;
	*value = attribute == CU_MAJOR ? 8 : attribute == CU_MULTIPROCESSORS ? 4 : attribute == CU_SHARED_PER_BLOCK_OPTIN ? 99 << 10 : 0;
	return 0;
}

cu_result cuDeviceTotalMem_v2(size_t *bytes, cu_device device) {
	(void)device;
	*bytes = (size_t)setting("FAKE_CUDA_MEMORY", 1 << 30);
	return 0;
}

cu_result cuDevicePrimaryCtxGetState(cu_device device, unsigned *flags, int *active) {
	*flags = 0;
	*active = devices[device].held > 0;
	return 0;
}

cu_result cuDevicePrimaryCtxSetFlags_v2(cu_device device, unsigned flags) {
	note("wait flags", device, flags);
	return 0;
}

cu_result cuDevicePrimaryCtxRetain(cu_handle *context, cu_device device) {
	ENTER("cuDevicePrimaryCtxRetain")
	devices[device].held++;
	*context = &devices[device];
	LEAVE;
}

cu_result cuDevicePrimaryCtxRelease_v2(cu_device device) {
	ENTER("cuDevicePrimaryCtxRelease_v2")
	devices[device].held--;
	LEAVE;
}

cu_result cuCtxPushCurrent_v2(cu_handle context) {
	if (depth == 16)
		return INVALID_CONTEXT;
	for (int i = 0; i < DEVICES; i++)
		if (context == (cu_handle)&devices[i]) {
			stack[depth++] = i;
			return 0;
		}
	return INVALID_CONTEXT;
}

cu_result cuCtxPopCurrent_v2(cu_handle *context) {
	if (depth == 0)
		return INVALID_CONTEXT;
	*context = &devices[stack[--depth]];
	return 0;
}

cu_result cuMemGetInfo_v2(size_t *free, size_t *total) {
	ENTER_CONTEXT("cuMemGetInfo_v2")
	*total = (size_t)setting("FAKE_CUDA_MEMORY", 1 << 30);
	*free = *total - devices[HERE].used;
	LEAVE;
}

cu_result cuMemAlloc_v2(cu_ptr *at, size_t bytes) {
	ENTER_CONTEXT("cuMemAlloc_v2")
	void *memory;
	if (bytes == 0)
		result = INVALID_VALUE;
	else if (devices[HERE].used + bytes > (size_t)setting("FAKE_CUDA_MEMORY", 1 << 30))
		result = OUT_OF_MEMORY;
	else if ((result = take(bytes, 0, HERE, &memory)) == 0) {
		devices[HERE].used += bytes;
		*at = (cu_ptr)(uintptr_t)memory;
	}
	LEAVE;
}

static int give(void *at, int pinned) {
	for (int i = 0; i < RANGES; i++)
		if (ranges[i].at == at && at != NULL && ranges[i].pinned == pinned) {
			if (!pinned)
				devices[ranges[i].device].used -= ranges[i].n;
			unguarded(at, ranges[i].n, ALIGNED);
			ranges[i].at = NULL;
			return 0;
		}
	return INVALID_VALUE;
}

cu_result cuMemFree_v2(cu_ptr at) {
	ENTER("cuMemFree_v2")
	result = give((void *)(uintptr_t)at, 0);
	LEAVE;
}

cu_result cuMemHostAlloc(void **at, size_t bytes, unsigned flags) {
	(void)flags;
	ENTER_CONTEXT("cuMemHostAlloc")
	result = take(bytes, 1, HERE, at);
	LEAVE;
}

cu_result cuMemFreeHost(void *at) {
	ENTER("cuMemFreeHost")
	result = give(at, 1);
	LEAVE;
}

cu_result cuMemcpyHtoDAsync_v2(cu_ptr to, const void *from, size_t bytes, cu_handle handle) {
	ENTER_CONTEXT("cuMemcpyHtoDAsync_v2")
	stream *s = handle;
	op o = {.kind = IN, .to = (uint8_t *)(uintptr_t)to, .from = from, .n = bytes};
	range *r = find(from, bytes);
	if (r == NULL || !r->pinned) { // pageable: read before the call returns
		o.owned = malloc(bytes);
		memcpy(o.owned, from, bytes);
		o.from = o.owned;
	}
	result = put(s, o, "in");
	LEAVE;
}

cu_result cuMemcpyDtoHAsync_v2(void *to, cu_ptr from, size_t bytes, cu_handle handle) {
	ENTER_CONTEXT("cuMemcpyDtoHAsync_v2")
	stream *s = handle;
	result = put(s, (op){.kind = OUT, .to = to, .from = (const uint8_t *)(uintptr_t)from, .n = bytes}, "out");
	range *r = find(to, bytes);
	if (result == 0 && (r == NULL || !r->pinned)) // pageable: written before the call returns
		advance(s, s->todo.n);
	LEAVE;
}

cu_result cuStreamCreate(cu_handle *handle, unsigned flags) {
	(void)flags;
	ENTER_CONTEXT("cuStreamCreate")
	stream *s = calloc(1, sizeof *s);
	s->id = ++streams;
	s->device = HERE;
	*handle = s;
	LEAVE;
}

cu_result cuStreamDestroy_v2(cu_handle handle) {
	ENTER("cuStreamDestroy_v2")
	stream *s = handle;
	advance(s, s->todo.n);
	free(s);
	LEAVE;
}

cu_result cuStreamQuery(cu_handle handle) {
	ENTER_CONTEXT("cuStreamQuery")
	stream *s = handle;
	result = s->done < s->todo.n ? NOT_READY : devices[s->device].lost; // never done before somebody waits
	LEAVE;
}

cu_result cuStreamSynchronize(cu_handle handle) {
	ENTER_CONTEXT("cuStreamSynchronize")
	stream *s = handle;
	note("wait", s->id, 0);
	advance(s, s->todo.n);
	result = devices[s->device].lost;
	LEAVE;
}

cu_result cuStreamWaitEvent(cu_handle handle, cu_handle e, unsigned flags) {
	(void)flags;
	ENTER_CONTEXT("cuStreamWaitEvent")
	event *of = e;
	if (of->of != NULL)
		result = put(handle, (op){.kind = WAIT, .of = of->of, .number = of->number}, "after");
	LEAVE;
}

cu_result cuEventCreate(cu_handle *e, unsigned flags) {
	(void)flags;
	ENTER_CONTEXT("cuEventCreate")
	*e = calloc(1, sizeof(event));
	LEAVE;
}

cu_result cuEventDestroy_v2(cu_handle e) {
	ENTER("cuEventDestroy_v2")
	free(e);
	LEAVE;
}

cu_result cuEventRecord(cu_handle e, cu_handle handle) {
	ENTER_CONTEXT("cuEventRecord")
	stream *s = handle;
	event *of = e;
	of->of = s;
	of->number = ++s->recorded;
	result = put(s, (op){.kind = RECORD, .e = of, .number = of->number}, "record");
	LEAVE;
}

cu_result cuEventSynchronize(cu_handle e) {
	ENTER_CONTEXT("cuEventSynchronize")
	event *of = e;
	if (of->of != NULL) {
		note("wait", of->of->id, 0);
		while (of->of->reached < of->number && of->of->done < of->of->todo.n)
			advance(of->of, of->of->done + 1);
		result = devices[of->of->device].lost;
	}
	LEAVE;
}

cu_result cuEventElapsedTime(float *ms, cu_handle from, cu_handle to) {
	ENTER_CONTEXT("cuEventElapsedTime")
	*ms = (float)(((event *)to)->at - ((event *)from)->at);
	LEAVE;
}

cu_result cuModuleLoadDataEx(cu_handle *module, const void *image, unsigned options, int *keys, void **values) {
	for (unsigned i = 0; i < options; i++)
		if (keys[i] == CU_JIT_ERROR_LOG)
			strcpy(values[i], "ptxas fatal: what the fake was told\nto say");
	ENTER_CONTEXT("cuModuleLoadDataEx")
	if (strncmp(image, ".version", 8) != 0)
		result = INVALID_IMAGE;
	else
		*module = malloc(1);
	LEAVE;
}

cu_result cuModuleUnload(cu_handle module) {
	ENTER("cuModuleUnload")
	free(module);
	LEAVE;
}

cu_result cuModuleGetFunction(cu_handle *function, cu_handle module, const char *name) {
	(void)module;
	ENTER_CONTEXT("cuModuleGetFunction")
	Dl_info self;
	if (!dladdr((void *)cuInit, &self))
		abort();
	void *me = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
	*function = dlsym(me, name);
	dlclose(me);
	if (*function == NULL)
		result = NOT_FOUND;
	LEAVE;
}

cu_result cuFuncSetAttribute(cu_handle function, int attribute, int value) {
	(void)function;
	ENTER_CONTEXT("cuFuncSetAttribute")
	if (attribute == CU_FUNC_MAX_DYNAMIC_SHARED && value > 99 << 10)
		result = INVALID_VALUE;
	LEAVE;
}

cu_result cuLaunchKernel(cu_handle function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
	unsigned shared, cu_handle handle, void **parameters, void **extra) {
	(void)extra;
	ENTER_CONTEXT("cuLaunchKernel")
	if (grid_x == 0 || grid_y != 1 || grid_z != 1 || block_x != PICKET_THREADS || block_y != 1 || block_z != 1 || shared > 99 << 10)
		result = INVALID_VALUE;
	else {
		op o = {.kind = LAUNCH, .grid = grid_x, .shared = shared, .parameter = *(const picket_run *)parameters[0]};
		memcpy(&o.kernel, &function, sizeof function);
		o.n = o.parameter.rows;
		result = put(handle, o, "kernel");
	}
	LEAVE;
}
