/* Tests picket_lane.h against a running daemon: test SOCKET MODEL FEATURES ROWS < row-major float32, then the expected
 * float32 outputs. It is run under the address and undefined behaviour sanitizers. */
#include "picket_lane.h"

#define CHECK(what, ok) \
	do { \
		if (!(ok)) { \
			fprintf(stderr, "%s:%d: %s; the last error was: %s\n", __FILE__, __LINE__, what, picket_lane_error(lane)); \
			return 1; \
		} \
	} while (0)

/* predict asks for rows of the only input and compares the only output bit for bit. */
static int same(struct picket_lane *lane, struct picket_lane_model *model, const float *x, const float *want, uint32_t rows)
{
	size_t n = picket_lane_size(&model->tensors[1], rows);
	float *got = malloc(n);
	const void *in[] = {x};
	void *out[] = {got};
	int ok = got && picket_lane_predict(lane, model, rows, in, out, 5000) == PICKET_LANE_OK && memcmp(got, want, n) == 0;
	free(got);
	return ok;
}

/* many asks for the rows again and again, so that the answer is of several messages. */
static int many(struct picket_lane *lane, struct picket_lane_model *model, const float *x, const float *want, int features, uint32_t rows)
{
	uint32_t times = 3 * PICKET_LANE_MESSAGE_ / (rows * sizeof(float)) + 1;
	size_t row = (size_t)features * sizeof(float), n = (size_t)times * rows;
	char *xs = malloc(n * row);
	float *wants = malloc(n * sizeof(float));
	int ok = xs && wants;
	for (uint32_t i = 0; ok && i < times; i++) {
		memcpy(xs + i * rows * row, x, rows * row);
		memcpy(wants + i * (size_t)rows, want, rows * sizeof(float));
	}
	ok = ok && same(lane, model, (const float *)xs, wants, (uint32_t)n);
	free(xs);
	free(wants);
	return ok;
}

static int test(struct picket_lane *lane, const char *name, const float *x, const float *want, int features, uint32_t rows, int ring)
{
	static struct picket_lane_model model, other;
	const void *in[] = {x};
	float score;
	void *out[] = {&score};

	CHECK("an unknown model is NOT_FOUND", picket_lane_open(lane, "no-such-model", 5000, &other) == PICKET_LANE_NOT_FOUND);
	CHECK("and the sentence says so", strstr(picket_lane_error(lane), "no-such-model") != NULL);
	CHECK("a name too long is NOT_FOUND", picket_lane_open(lane, "", 5000, &other) == PICKET_LANE_NOT_FOUND);
	CHECK("the model opens", picket_lane_open(lane, name, 5000, &model) == PICKET_LANE_OK);
	CHECK("there is a ring where one was asked for", picket_lane_has_ring(lane) == ring);
	char inference[PICKET_LANE_INFERENCE] = "?";
	picket_lane_inference(lane, inference);
	CHECK("what was not asked has no name", inference[0] == 0);
	CHECK("it has one input and one output", model.inputs == 1 && model.outputs == 1);
	CHECK("the input is rows of float32", model.tensors[0].type == PICKET_LANE_FP32 && model.tensors[0].dimensions == 2 && model.tensors[0].dims[0] == -1);
	CHECK("of so many", model.tensors[0].dims[1] == features && picket_lane_size(&model.tensors[0], 2) == 8 * (size_t)features);
	for (uint32_t i = 0; i < rows; i++)
		CHECK("one row", same(lane, &model, x + i * (size_t)features, want + i, 1));
	CHECK("all rows, larger than a message", same(lane, &model, x, want, rows));
	CHECK("many rows, whose answer is larger than a message, too", many(lane, &model, x, want, features, rows));
	picket_lane_inference(lane, inference);
	CHECK("a prediction has a name", strlen(inference) > 33 && inference[32] == '-');
	puts(inference); /* which clients/test.sh looks for among what was captured */
	CHECK("no rows do not fit", picket_lane_predict(lane, &model, 0, in, out, 5000) == PICKET_LANE_INVALID_ARGUMENT);
	CHECK("too many rows do not fit", picket_lane_predict(lane, &model, UINT32_MAX, in, out, 5000) == PICKET_LANE_INVALID_ARGUMENT);
	CHECK("no time is a deadline", picket_lane_predict(lane, &model, 1, in, out, 0) == PICKET_LANE_DEADLINE_EXCEEDED);
	CHECK("then it goes on", same(lane, &model, x, want, 1));

	close(lane->fd); /* as if the daemon had ended */
	lane->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK("a lost connection is made again", same(lane, &model, x, want, 3));
	CHECK("and the model opened again", model.connection == lane->connection);
	CHECK("in a ring as before", picket_lane_has_ring(lane) == ring);
	lane->leaving = 1; /* as after a goodbye */
	CHECK("a connection that is ending is left", same(lane, &model, x, want, 3));
	model.tensors[0].dims[1]++;
	lane->leaving = 1;
	CHECK("another signature is noticed", picket_lane_predict(lane, &model, 1, in, out, 5000) == PICKET_LANE_FAILED_PRECONDITION);
	return 0;
}

/* What is in the ring is not believed. */
static int test_corrupt(struct picket_lane *lane, const char *name, const float *x)
{
	static struct picket_lane_model model;
	float score;
	const void *in[] = {x};
	void *out[] = {&score};
	for (int i = 0; i < 2; i++) {
		CHECK("the model opens", picket_lane_open(lane, name, 5000, &model) == PICKET_LANE_OK && picket_lane_has_ring(lane));
		uint32_t *word = i == 0 ? picket_lane_word_(lane, 0, PICKET_LANE_READ_) : picket_lane_word_(lane, 1, PICKET_LANE_WRITTEN_);
		__atomic_store_n(word, 1u << 31, __ATOMIC_SEQ_CST);
		/* The daemon stores the second one again when it answers: it must not be asked. */
		int failed = i == 0 ? picket_lane_predict(lane, &model, 1, in, out, 5000) : picket_lane_take_(lane, picket_lane_end_(5000));
		CHECK("a position that cannot be is an error", failed == PICKET_LANE_INTERNAL);
		CHECK("and the end of the ring", !picket_lane_has_ring(lane));
		CHECK("then it goes on", picket_lane_predict(lane, &model, 1, in, out, 5000) == PICKET_LANE_OK);
	}
	return 0;
}

/* Nobody listens, or what listens is no daemon. */
static int test_others(const char *agent)
{
	static struct picket_lane_model model;
	struct picket_lane *lane = picket_lane_new("/nowhere/lane.sock");
	CHECK("there is memory", lane);
	CHECK("nobody is UNAVAILABLE", picket_lane_open(lane, "m", 1000, &model) == PICKET_LANE_UNAVAILABLE);
	picket_lane_free(lane);
	lane = picket_lane_new(agent);
	CHECK("there is memory", lane);
	CHECK("another protocol is an error", picket_lane_open(lane, "m", 1000, &model) != PICKET_LANE_OK);
	picket_lane_free(lane);
	picket_lane_free(NULL);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 6) {
		fprintf(stderr, "usage: %s SOCKET MODEL FEATURES ROWS AGENT-SOCKET < values\n", argv[0]);
		return 2;
	}
	int features = atoi(argv[3]), rows = atoi(argv[4]), failed = 1;
	size_t n = (size_t)features * (size_t)rows;
	float *x = malloc(n * sizeof(float)), *want = malloc((size_t)rows * sizeof(float));
	struct picket_lane *lane = picket_lane_new(argv[1]), *ring = picket_lane_new(argv[1]);
	if (ring)
		picket_lane_use_ring(ring);
	if (x && want && lane && ring && fread(x, sizeof(float), n, stdin) == n && fread(want, sizeof(float), (size_t)rows, stdin) == (size_t)rows)
		failed = test(lane, argv[2], x, want, features, (uint32_t)rows, 0) || test(ring, argv[2], x, want, features, (uint32_t)rows, 1) ||
			test_corrupt(ring, argv[2], x) || test_others(argv[5]);
	else
		fprintf(stderr, "the values are not those of %d rows\n", rows);
	free(x);
	free(want);
	picket_lane_free(lane);
	picket_lane_free(ring);
	return failed;
}
