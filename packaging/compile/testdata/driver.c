/* driver LIBRARY ROWS FEATURES MARGIN: loads a compiled tree artifact the way a caller of its C interface would, scores
 * every row of the file ROWS (float32, row-major, NaN is missing) and writes the float32 results to standard output. The
 * first line of standard error is what the library says about itself. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

union Entry { int missing; float fvalue; int qvalue; };

static void *symbol(void *library, const char *name, int required)
{
	void *p = dlsym(library, name);
	if (p == NULL && required) {
		fprintf(stderr, "%s is missing\n", name);
		exit(1);
	}
	return p;
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	if (library == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	size_t (*num_class)(void) = symbol(library, "get_num_class", 1);
	size_t (*num_output_group)(void) = symbol(library, "get_num_output_group", 1);
	size_t (*num_feature)(void) = symbol(library, "get_num_feature", 1);
	const char *(*transform)(void) = symbol(library, "get_pred_transform", 1);
	const char *(*threshold)(void) = symbol(library, "get_threshold_type", 1);
	const char *(*leaf)(void) = symbol(library, "get_leaf_output_type", 1);
	float (*alpha)(void) = symbol(library, "get_sigmoid_alpha", 1);
	float (*bias)(void) = symbol(library, "get_global_bias", 1);
	float (*predict)(union Entry *, int) = symbol(library, "predict", 0);
	size_t (*multiclass)(union Entry *, int, float *) = symbol(library, "predict_multiclass", 0);
	fprintf(stderr, "%zu %zu %zu %s %s %s %a %a %s\n", num_class(), num_output_group(), num_feature(), transform(), threshold(),
		leaf(), alpha(), bias(), predict ? "predict" : multiclass ? "predict_multiclass" : "nothing");
	size_t features = (size_t)atol(argv[3]);
	int margin = atoi(argv[4]);
	union Entry *row = malloc(features * sizeof *row);
	float *out = malloc(num_class() * sizeof *out);
	FILE *rows = fopen(argv[2], "rb");
	if (rows == NULL || row == NULL || out == NULL)
		return 1;
	while (fread(row, sizeof *row, features, rows) == features) {
		size_t n = 1;
		if (predict)
			out[0] = predict(row, margin);
		else
			n = multiclass(row, margin, out);
		if (fwrite(out, sizeof *out, n, stdout) != n)
			return 1;
	}
	return 0;
}
