/* dlr LIBDLR FOLDER ROWS FEATURES OUTPUTS: opens the artifact FOLDER with libdlr, scores all rows of the file ROWS in
 * one call, and writes the float32 results to standard output. libdlr prints to standard output itself, so the results
 * come behind a line "results". */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	if (argc != 6)
		return 2;
	void *dlr = dlopen(argv[1], RTLD_NOW);
	if (dlr == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	int (*create)(void **, const char *, int, int) = dlsym(dlr, "CreateDLRModel");
	int (*set)(void **, const char *, const int64_t *, const void *, int) = dlsym(dlr, "SetDLRInput");
	int (*run)(void **) = dlsym(dlr, "RunDLRModel");
	int (*get)(void **, int, void *) = dlsym(dlr, "GetDLROutput");
	const char *(*last)(void) = dlsym(dlr, "DLRGetLastError");
	FILE *f = fopen(argv[3], "rb");
	if (!create || !set || !run || !get || !last || !f || fseek(f, 0, SEEK_END) != 0)
		return 1;
	size_t values = (size_t)ftell(f) / 4, features = (size_t)atol(argv[4]), outputs = (size_t)atol(argv[5]);
	size_t n = values / features;
	float *rows = malloc(values * 4), *out = malloc(n * 64 * 4); /* more than any library here writes */
	rewind(f);
	if (!rows || !out || fread(rows, 4, values, f) != values)
		return 1;
	void *model = NULL;
	int64_t shape[2] = {(int64_t)n, (int64_t)features};
	if (create(&model, argv[2], 1, 0) || set(&model, "data", shape, rows, 2) || run(&model) || get(&model, 0, out)) {
		fprintf(stderr, "%s\n", last());
		return 1;
	}
	printf("\nresults\n");
	return fwrite(out, 4, n * outputs, stdout) != n * outputs;
}
