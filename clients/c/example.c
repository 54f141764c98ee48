/* Scores rows of comma-separated numbers with a model of float32: example SOCKET MODEL < rows.csv */
#include <math.h>

#include "picket_lane.h"

enum { MAX_FEATURES = 4096 };

/* parse reads the numbers of a line; an empty field is missing. It returns how many there are, -1 for too many. */
static int parse(char *line, float *features)
{
	int n = 0;
	for (char *field = line; field; n++) {
		if (n == MAX_FEATURES)
			return -1;
		char *comma = strchr(field, ',');
		char *end;
		features[n] = strtof(field, &end);
		if (end == field)
			features[n] = NAN;
		field = comma ? comma + 1 : NULL;
	}
	return n;
}

int main(int argc, char **argv)
{
	static float features[MAX_FEATURES];
	static char line[1 << 16];
	static struct picket_lane_model model;
	int status = 1, row = 0;
	float score;
	const void *in[] = {features};
	void *out[] = {&score};

	if (argc != 3) {
		fprintf(stderr, "usage: %s SOCKET MODEL < rows.csv\n", argv[0]);
		return 2;
	}
	struct picket_lane *lane = picket_lane_new(argv[1]);
	if (!lane) {
		fprintf(stderr, "the path %s is too long for a socket\n", argv[1]);
		return 2;
	}
	if (picket_lane_open(lane, argv[2], 5000, &model) != PICKET_LANE_OK) {
		fprintf(stderr, "opening %s: %s\n", argv[2], picket_lane_error(lane));
		goto end;
	}
	const struct picket_lane_tensor *x = &model.tensors[0], *y = &model.tensors[1];
	if (model.inputs != 1 || model.outputs != 1 || x->type != PICKET_LANE_FP32 || y->type != PICKET_LANE_FP32 ||
		picket_lane_size(y, 1) != sizeof(score)) {
		fprintf(stderr, "%s does not score rows of float32\n", argv[2]);
		goto end;
	}
	while (fgets(line, sizeof(line), stdin)) {
		int n = parse(line, features);
		row++;
		if (n < 0 || n * sizeof(float) != picket_lane_size(x, 1)) {
			fprintf(stderr, "row %d has %d numbers, the model takes %zu\n", row, n, picket_lane_size(x, 1) / sizeof(float));
			goto end;
		}
		if (picket_lane_predict(lane, &model, 1, in, out, 1000) != PICKET_LANE_OK) {
			fprintf(stderr, "scoring row %d: %s\n", row, picket_lane_error(lane));
			goto end;
		}
		printf("%.9g\n", (double)score);
	}
	status = 0;
end:
	picket_lane_free(lane);
	return status;
}
