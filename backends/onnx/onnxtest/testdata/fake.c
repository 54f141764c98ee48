// A libonnxruntime.so with a CUDA provider that is none: ONNX Runtime itself, whose table of functions is copied and a few of them replaced, so that
// what is to run on a GPU runs on the processor. What is done on the host's side for models on GPUs is tested with it on any machine, beside the
// stand-in for the driver. Environment:
//
//	FAKE_ORT_FAIL  "run N TEXT" or "open N TEXT": runs of sessions on GPU N, or making them, fail with the text
//	FAKE_ORT_LOG   a file that gets a line for each session on a GPU, with the options of the provider
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../ort.h"

enum { FUNCTIONS = 280, SESSIONS = 64, WORDS = 256 };
enum { CREATE_STATUS = 0, CREATE_SESSION = 8, RUN = 9, RELEASE_SESSION = 95, RELEASE_OPTIONS = 100, PROVIDERS = 125, RELEASE_PROVIDERS = 126,
	APPEND_CUDA = 204, CREATE_CUDA = 205, UPDATE_CUDA = 206, RELEASE_CUDA = 208 };

typedef struct {
	const void *const *(*get_api)(uint32_t version);
	const char *(*version)(void);
} api_base;

typedef struct { void *of; int device; char words[WORDS]; } cuda; // of session options, then of a session

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const api_base *real;
static const void *const *table;
static void *copy[FUNCTIONS];
static cuda known[SESSIONS];

static cuda *find(const void *of) {
	for (int i = 0; i < SESSIONS; i++)
		if (known[i].of == of)
			return &known[i];
	return NULL;
}

// Whether this is to fail on that GPU, and with which words.
static void *wish(const char *what, int device) {
	const char *text = getenv("FAKE_ORT_FAIL");
	char start[32];
	snprintf(start, sizeof start, "%s %d ", what, device);
	if (text == NULL || strncmp(text, start, strlen(start)) != 0)
		return NULL;
	return ((void *(*)(int, const char *))table[CREATE_STATUS])(1, text + strlen(start));
}

static void *providers(char ***names, int *n) {
	static char *all[] = {"CUDAExecutionProvider", "CPUExecutionProvider"};
	*names = all;
	*n = 2;
	return NULL;
}

static void *release_providers(char **names, int n) {
	(void)names;
	(void)n;
	return NULL;
}

static void *create_cuda(void **options) {
	*options = calloc(1, sizeof(cuda));
	return NULL;
}

static void *update_cuda(void *options, const char *const *keys, const char *const *values, size_t n) {
	cuda *c = options;
	for (size_t i = 0; i < n; i++) {
		size_t used = strlen(c->words);
		snprintf(c->words + used, WORDS - used, " %s=%s", keys[i], values[i]);
		if (strcmp(keys[i], "device_id") == 0)
			c->device = atoi(values[i]);
	}
	return NULL;
}

static void release_cuda(void *options) { free(options); }

static void *append_cuda(void *session_options, const void *options) {
	pthread_mutex_lock(&lock);
	cuda *c = find(NULL);
	if (c == NULL)
		abort();
	*c = *(const cuda *)options;
	c->of = session_options;
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void forget(const void *of) {
	pthread_mutex_lock(&lock);
	cuda *c = find(of);
	if (c != NULL)
		c->of = NULL;
	pthread_mutex_unlock(&lock);
}

static void release_options(void *options) {
	forget(options);
	((void (*)(void *))table[RELEASE_OPTIONS])(options);
}

static void release_session(void *session) {
	forget(session);
	((void (*)(void *))table[RELEASE_SESSION])(session);
}

static void *create_session(const void *env, const void *model, size_t size, const void *options, void **session) {
	pthread_mutex_lock(&lock);
	cuda *c = find(options), with = {0};
	if (c != NULL)
		with = *c;
	pthread_mutex_unlock(&lock);
	if (c != NULL) {
		void *failed = wish("open", with.device);
		if (failed != NULL)
			return failed;
		const char *name = getenv("FAKE_ORT_LOG");
		FILE *f = name != NULL && *name ? fopen(name, "a") : NULL;
		if (f != NULL) {
			fprintf(f, "session%s\n", with.words);
			fclose(f);
		}
	}
	void *status = ((void *(*)(const void *, const void *, size_t, const void *, void **))table[CREATE_SESSION])(env, model, size, options, session);
	if (status == NULL && c != NULL) {
		pthread_mutex_lock(&lock);
		cuda *mine = find(NULL);
		if (mine == NULL)
			abort();
		*mine = with;
		mine->of = *session;
		pthread_mutex_unlock(&lock);
	}
	return status;
}

static void *run(void *session, const void *options, const char *const *in, const void *const *inputs, size_t n, const char *const *out, size_t m, void **outputs) {
	pthread_mutex_lock(&lock);
	cuda *c = find(session);
	void *failed = c != NULL ? wish("run", c->device) : NULL;
	pthread_mutex_unlock(&lock);
	if (failed != NULL)
		return failed;
	return ((void *(*)(void *, const void *, const char *const *, const void *const *, size_t, const char *const *, size_t, void **))table[RUN])(
		session, options, in, inputs, n, out, m, outputs);
}

static const void *const *get_api(uint32_t version) {
	table = real->get_api(version);
	if (table == NULL)
		return NULL;
	memcpy(copy, table, sizeof copy);
	copy[CREATE_SESSION] = (void *)create_session;
	copy[RUN] = (void *)run;
	copy[RELEASE_SESSION] = (void *)release_session;
	copy[RELEASE_OPTIONS] = (void *)release_options;
	copy[PROVIDERS] = (void *)providers;
	copy[RELEASE_PROVIDERS] = (void *)release_providers;
	copy[APPEND_CUDA] = (void *)append_cuda;
	copy[CREATE_CUDA] = (void *)create_cuda;
	copy[UPDATE_CUDA] = (void *)update_cuda;
	copy[RELEASE_CUDA] = (void *)release_cuda;
	return (const void *const *)copy;
}

static const char *version(void) { return real->version(); }

const api_base *OrtGetApiBase(void) {
	static const api_base base = {get_api, version};
	if (real == NULL) {
		void *library = dlopen(RUNTIME, RTLD_NOW | RTLD_LOCAL);
		const api_base *(*get)(void) = library != NULL ? (const api_base *(*)(void))dlsym(library, "OrtGetApiBase") : NULL;
		if (get == NULL)
			abort();
		real = get();
	}
	return &base;
}
