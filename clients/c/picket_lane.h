/*
 * A client of picketd's lane (docs/formats/lane.md) in one header, without dependencies: GNU C99 on Linux.
 *
 *     struct picket_lane *lane = picket_lane_new("/run/picket/lane.sock");
 *     struct picket_lane_model model;
 *     if (picket_lane_open(lane, "fraud", 1000, &model) != PICKET_LANE_OK)
 *         fprintf(stderr, "%s\n", picket_lane_error(lane));
 *     const void *in[] = {features};
 *     void *out[] = {&score};
 *     if (picket_lane_predict(lane, &model, 1, in, out, 10) != PICKET_LANE_OK) ...
 *     picket_lane_free(lane);
 *
 * A lane is for one thread at a time; threads that predict at once have one each. It connects when it is first
 * needed, and again after the connection was lost: what had no answer is asked once more, since a prediction changes
 * nothing. Timeouts are in milliseconds, negative for none, and go along with the request, so that the daemon drops
 * what nobody waits for. After a timeout the answer that may still come is dropped when it does.
 *
 * After picket_lane_use_ring it asks for a ring in shared memory, which saves the calls of the kernel while both sides are
 * busy; where the daemon has none to give, the lane stays on its socket.
 *
 * Functions return PICKET_LANE_OK or one of the codes below; picket_lane_error says in a sentence what is wrong.
 */
#ifndef PICKET_LANE_H
#define PICKET_LANE_H

#ifdef __cplusplus
extern "C" {
#endif

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* gRPC's status codes, as far as the daemon uses them. */
enum {
	PICKET_LANE_OK = 0,
	PICKET_LANE_CANCELED = 1,
	PICKET_LANE_INVALID_ARGUMENT = 3,    /* the request does not fit the model */
	PICKET_LANE_DEADLINE_EXCEEDED = 4,   /* no answer in time */
	PICKET_LANE_NOT_FOUND = 5,           /* no model of that name is loaded */
	PICKET_LANE_RESOURCE_EXHAUSTED = 8,  /* the daemon is busy: see picket_lane_retry_after */
	PICKET_LANE_FAILED_PRECONDITION = 9, /* another model with other tensors has the name now: open it again */
	PICKET_LANE_UNIMPLEMENTED = 12,
	PICKET_LANE_INTERNAL = 13,           /* the model failed, or the other side is no daemon */
	PICKET_LANE_UNAVAILABLE = 14         /* the daemon is not there */
};

enum { PICKET_LANE_TENSORS = 64, PICKET_LANE_DIMENSIONS = 8, PICKET_LANE_NAME = 128, PICKET_LANE_INFERENCE = 64 };

/* Element types, as in the specification. */
enum {
	PICKET_LANE_BOOL = 1, PICKET_LANE_UINT8, PICKET_LANE_UINT16, PICKET_LANE_UINT32, PICKET_LANE_UINT64,
	PICKET_LANE_INT8, PICKET_LANE_INT16, PICKET_LANE_INT32, PICKET_LANE_INT64,
	PICKET_LANE_FP16, PICKET_LANE_FP32, PICKET_LANE_FP64, PICKET_LANE_BF16
};

/* One tensor of a model. */
struct picket_lane_tensor {
	char name[PICKET_LANE_NAME]; /* cut if it is longer */
	int type;
	int dimensions;
	int64_t dims[PICKET_LANE_DIMENSIONS]; /* outermost first; the first is -1 where it is the number of rows */
	size_t row_bytes;                     /* of one row, or of all of it where it has no rows */
};

/* A model as it was opened. Inputs come first among the tensors, then outputs. */
struct picket_lane_model {
	char name[256];
	int inputs, outputs;
	struct picket_lane_tensor tensors[PICKET_LANE_TENSORS];
	uint32_t handle;     /* on the connection that has this number: */
	uint64_t connection;
};

struct picket_lane;

/* Makes a lane to the socket at path, of either type. NULL when there is no memory or the path is too long. */
static inline struct picket_lane *picket_lane_new(const char *path);

/* Has the lane ask for a ring when it connects, from the next time on. */
static inline void picket_lane_use_ring(struct picket_lane *lane);

/* Whether the connection of now is a ring: 1 or 0. */
static inline int picket_lane_has_ring(const struct picket_lane *lane);

/* Closes the connection and frees the lane; NULL does nothing. */
static inline void picket_lane_free(struct picket_lane *lane);

/* Opens the model of that name and describes it in *model, which the caller owns. */
static inline int picket_lane_open(struct picket_lane *lane, const char *name, int timeout_ms, struct picket_lane_model *model);

/* Runs the model. in[i] are the bytes of input i and out[i] room for output i: as many as picket_lane_size says for
 * so many rows. After an error the outputs are undefined. */
static inline int picket_lane_predict(struct picket_lane *lane, struct picket_lane_model *model, uint32_t rows,
	const void *const *in, void *const *out, int timeout_ms);

/* What the daemon calls the last prediction of this lane among those that it captures, for `picket truth`: written to name, and
 * empty where there was none or the daemon names none. */
static inline void picket_lane_inference(const struct picket_lane *lane, char name[PICKET_LANE_INFERENCE]);

/* What the last error was, in a sentence; good until the next call. */
static inline const char *picket_lane_error(const struct picket_lane *lane);

/* After how many microseconds asking again has a chance, 0 for no hint; of the last error. */
static inline uint32_t picket_lane_retry_after(const struct picket_lane *lane);

/* The bytes of a tensor for so many rows; SIZE_MAX if they do not fit. */
static inline size_t picket_lane_size(const struct picket_lane_tensor *tensor, uint32_t rows);

/* From here on is how it works. */

enum {
	PICKET_LANE_HEADER_ = 32,
	PICKET_LANE_MESSAGE_ = 65536,
	PICKET_LANE_BUFFER_ = 2 * PICKET_LANE_MESSAGE_,
	PICKET_LANE_HELLO_ = 1, PICKET_LANE_WELCOME_ = 2, PICKET_LANE_OPEN_ = 3, PICKET_LANE_MODEL_ = 4,
	PICKET_LANE_PREDICT_ = 5, PICKET_LANE_RESULT_ = 6, PICKET_LANE_ERROR_ = 7, PICKET_LANE_CANCEL_ = 8,
	PICKET_LANE_GOODBYE_ = 9
};

/* The layout of a ring. Direction 0 is from the client to the daemon, 1 the other one. */
enum {
	PICKET_LANE_RING_ = 1, /* the feature */
	PICKET_LANE_CONTROL_ = 4096,
	PICKET_LANE_DIRECTIONS_ = 128, PICKET_LANE_DIRECTION_ = 512,
	PICKET_LANE_WRITTEN_ = 0, PICKET_LANE_READER_SLEEPS_ = 128, PICKET_LANE_READ_ = 256, PICKET_LANE_WRITER_SLEEPS_ = 384
};

/* Looking for an answer is paid for with what looking has saved, as the specification proposes; nanoseconds. */
enum { PICKET_LANE_SLEEP_COST_ = 20000, PICKET_LANE_LONGEST_LOOK_ = 50000, PICKET_LANE_PER_WAIT_ = 1000, PICKET_LANE_ENOUGH_ = 100000 };

/* How long a sleep in a ring takes at most until the socket beside it is looked at, milliseconds. */
enum { PICKET_LANE_SLICE_ = 20 };

struct picket_lane {
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int fd;              /* -1 while there is no connection */
	int leaving;         /* the daemon said goodbye */
	uint64_t connection; /* counts the connections made */
	uint64_t id;         /* of the last request */
	unsigned char number[16];    /* the connection's, as the daemon has it; zero where it tells none */
	unsigned char asked_on[16];  /* that of the last prediction, */
	uint64_t asked;              /* and its id; 0 before the first */
	uint32_t max_payload;
	uint32_t retry_after;
	char error[1200];
	int wants_ring;
	int handed;          /* a descriptor that came with the greeting, -1 for none */
	unsigned char *ring; /* mapped; NULL without a ring */
	uint32_t capacity;   /* of each direction */
	uint32_t received, sent; /* bytes in all, as the ring's words count */
	int64_t saved;       /* what may be spent on looking */
	int looks;           /* from when there is enough of that until there is nothing */
	size_t from, to;     /* what of buffer is unread */
	unsigned char buffer[PICKET_LANE_BUFFER_];
};

struct picket_lane_frame_ {
	unsigned kind;
	uint32_t payload, handle, rows, deadline, flags;
	uint64_t id;
};

static inline void picket_lane_put_(unsigned char *b, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		b[i] = (unsigned char)(v >> (8 * i));
}

static inline uint64_t picket_lane_get_(const unsigned char *b, int bytes)
{
	uint64_t v = 0;
	for (int i = 0; i < bytes; i++)
		v |= (uint64_t)b[i] << (8 * i);
	return v;
}

static inline int64_t picket_lane_now_(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* end is when a call that begins now is over, -1 for never. */
static inline int64_t picket_lane_end_(int timeout_ms)
{
	return timeout_ms < 0 ? -1 : picket_lane_now_() + timeout_ms;
}

static inline int picket_lane_fail_(struct picket_lane *lane, int code, const char *what, const char *why)
{
	lane->retry_after = 0;
	snprintf(lane->error, sizeof(lane->error), "%s%s%s", what, *why ? ": " : "", why);
	return code;
}

static inline void picket_lane_hang_up_(struct picket_lane *lane)
{
	if (lane->fd >= 0)
		close(lane->fd);
	if (lane->handed >= 0)
		close(lane->handed);
	if (lane->ring)
		munmap(lane->ring, PICKET_LANE_CONTROL_ + 2 * (size_t)lane->capacity);
	lane->fd = lane->handed = -1;
	lane->ring = NULL;
	lane->from = lane->to = 0;
	lane->leaving = 0;
}

/* lost ends a connection that does not work. */
static inline int picket_lane_lost_(struct picket_lane *lane, const char *why)
{
	picket_lane_hang_up_(lane);
	return picket_lane_fail_(lane, PICKET_LANE_UNAVAILABLE, "the connection to the daemon was lost", why);
}

/* wait returns when the socket is ready. */
static inline int picket_lane_wait_(struct picket_lane *lane, short events, int64_t end)
{
	for (;;) {
		struct pollfd p = {lane->fd, events, 0};
		int64_t left = end < 0 ? -1 : end - picket_lane_now_();
		if (end >= 0 && left <= 0)
			return picket_lane_fail_(lane, PICKET_LANE_DEADLINE_EXCEEDED, "no answer in time", "");
		int n = poll(&p, 1, left < 0 || left > 1000000 ? (left < 0 ? -1 : 1000000) : (int)left);
		if (n > 0)
			return PICKET_LANE_OK;
		if (n < 0 && errno != EINTR)
			return picket_lane_lost_(lane, strerror(errno));
	}
}

static inline uint32_t *picket_lane_word_(struct picket_lane *lane, int direction, int word)
{
	return (uint32_t *)(void *)(lane->ring + PICKET_LANE_DIRECTIONS_ + direction * PICKET_LANE_DIRECTION_ + word);
}

/* wake wakes the daemon if it sleeps on the word. */
static inline void picket_lane_wake_(uint32_t *word)
{
	if (__atomic_load_n(word, __ATOMIC_SEQ_CST) && __atomic_exchange_n(word, 0, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* sleep sleeps until *changes is not as it was, at most until end. The daemon wakes whoever has set *sleeps. */
static inline int picket_lane_sleep_(struct picket_lane *lane, uint32_t *sleeps, uint32_t *changes, uint32_t as, int64_t end)
{
	if (__atomic_load_n(changes, __ATOMIC_SEQ_CST) != as)
		return PICKET_LANE_OK;
	for (;;) {
		__atomic_store_n(sleeps, 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(changes, __ATOMIC_SEQ_CST) != as) {
			__atomic_store_n(sleeps, 0, __ATOMIC_SEQ_CST);
			return PICKET_LANE_OK;
		}
		int64_t most = PICKET_LANE_SLICE_, left = end < 0 ? most : end - picket_lane_now_();
		if (left <= 0) {
			__atomic_store_n(sleeps, 0, __ATOMIC_SEQ_CST);
			return picket_lane_fail_(lane, PICKET_LANE_DEADLINE_EXCEEDED, "no answer in time", "");
		}
		struct timespec slice = {0, (left < most ? left : most) * 1000000};
		if (syscall(SYS_futex, sleeps, FUTEX_WAIT, 1, &slice, NULL, 0) == 0 || errno != ETIMEDOUT)
			continue;
		/* Is the daemon still there? What it wrote before it went is in the ring by now. */
		struct pollfd p = {lane->fd, POLLIN, 0};
		if (poll(&p, 1, 0) != 0 && __atomic_load_n(changes, __ATOMIC_SEQ_CST) == as)
			return picket_lane_lost_(lane, "the daemon closed it");
	}
}

/* spin looks for a moment whether *changes becomes other than it was. */
static inline void picket_lane_spin_(struct picket_lane *lane, uint32_t *changes, uint32_t as)
{
	struct timespec start, now;
	int64_t took = 0;
	int came = 0;
	lane->saved += PICKET_LANE_PER_WAIT_;
	if (lane->saved >= PICKET_LANE_ENOUGH_) {
		lane->saved = PICKET_LANE_ENOUGH_;
		lane->looks = 1;
	}
	if (!lane->looks)
		return;
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (!came && took < PICKET_LANE_LONGEST_LOOK_) {
		for (int i = 0; i < 32 && !came; i++)
			came = __atomic_load_n(changes, __ATOMIC_ACQUIRE) != as;
		clock_gettime(CLOCK_MONOTONIC, &now);
		took = (int64_t)(now.tv_sec - start.tv_sec) * 1000000000 + (now.tv_nsec - start.tv_nsec);
	}
	lane->saved += (came ? PICKET_LANE_SLEEP_COST_ : 0) - took;
	if (lane->saved <= 0)
		lane->saved = lane->looks = 0;
}

/* corrupt ends a ring whose positions make no sense. */
static inline int picket_lane_corrupt_(struct picket_lane *lane)
{
	picket_lane_hang_up_(lane);
	return picket_lane_fail_(lane, PICKET_LANE_INTERNAL, "the ring's positions make no sense", "");
}

/* put is send in a ring, in pieces, so that the daemon takes one out while the next is put in. */
static inline int picket_lane_put_all_(struct picket_lane *lane, const unsigned char *b, size_t n, int64_t end, int begun)
{
	uint32_t *read = picket_lane_word_(lane, 0, PICKET_LANE_READ_);
	unsigned char *data = lane->ring + PICKET_LANE_CONTROL_;
	while (n > 0) {
		uint32_t as = __atomic_load_n(read, __ATOMIC_SEQ_CST), used = lane->sent - as;
		if (used > lane->capacity)
			return picket_lane_corrupt_(lane);
		size_t some = lane->capacity - used, at = lane->sent & (lane->capacity - 1), first;
		if (some > PICKET_LANE_MESSAGE_)
			some = PICKET_LANE_MESSAGE_;
		if (n < some)
			some = n;
		if (some == 0) {
			int failed = picket_lane_sleep_(lane, picket_lane_word_(lane, 0, PICKET_LANE_WRITER_SLEEPS_), read, as, end);
			if (failed) {
				if (begun)
					picket_lane_hang_up_(lane);
				return failed;
			}
			continue;
		}
		first = lane->capacity - at < some ? lane->capacity - at : some;
		memcpy(data + at, b, first);
		memcpy(data, b + first, some - first);
		lane->sent += (uint32_t)some;
		__atomic_store_n(picket_lane_word_(lane, 0, PICKET_LANE_WRITTEN_), lane->sent, __ATOMIC_SEQ_CST);
		picket_lane_wake_(picket_lane_word_(lane, 0, PICKET_LANE_READER_SLEEPS_));
		b += some;
		n -= some;
		begun = 1;
	}
	return PICKET_LANE_OK;
}

/* take is fill from a ring. */
static inline int picket_lane_take_(struct picket_lane *lane, int64_t end)
{
	uint32_t *written = picket_lane_word_(lane, 1, PICKET_LANE_WRITTEN_);
	const unsigned char *data = lane->ring + PICKET_LANE_CONTROL_ + lane->capacity;
	if (__atomic_load_n(written, __ATOMIC_SEQ_CST) == lane->received)
		picket_lane_spin_(lane, written, lane->received);
	int failed = picket_lane_sleep_(lane, picket_lane_word_(lane, 1, PICKET_LANE_READER_SLEEPS_), written, lane->received, end);
	if (failed)
		return failed;
	uint32_t there = __atomic_load_n(written, __ATOMIC_SEQ_CST) - lane->received;
	if (there > lane->capacity)
		return picket_lane_corrupt_(lane);
	size_t n = PICKET_LANE_MESSAGE_, at = lane->received & (lane->capacity - 1);
	if (there < n)
		n = there;
	size_t first = lane->capacity - at < n ? lane->capacity - at : n;
	memcpy(lane->buffer + lane->to, data + at, first);
	memcpy(lane->buffer + lane->to + first, data, n - first);
	lane->to += n;
	lane->received += (uint32_t)n;
	__atomic_store_n(picket_lane_word_(lane, 1, PICKET_LANE_READ_), lane->received, __ATOMIC_SEQ_CST);
	picket_lane_wake_(picket_lane_word_(lane, 1, PICKET_LANE_WRITER_SLEEPS_));
	return PICKET_LANE_OK;
}

/* map goes on in the ring that came with the greeting. */
static inline int picket_lane_map_(struct picket_lane *lane)
{
	static const char magic[8] = {'P', 'K', 'R', 'I', 'N', 'G', 0, 1};
	static const char what[] = "the daemon hands over a ring that cannot be used";
	struct stat about;
	if (lane->handed < 0 || fstat(lane->handed, &about) != 0 || about.st_size < PICKET_LANE_CONTROL_ || about.st_size > (1 << 28))
		return picket_lane_fail_(lane, PICKET_LANE_INTERNAL, what, "");
	size_t size = (size_t)about.st_size;
	void *ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, lane->handed, 0);
	if (ring == MAP_FAILED)
		return picket_lane_fail_(lane, PICKET_LANE_RESOURCE_EXHAUSTED, "mapping a ring", strerror(errno));
	uint64_t capacity = picket_lane_get_((unsigned char *)ring + 8, 4);
	if (memcmp(ring, magic, sizeof(magic)) != 0 || capacity == 0 || (capacity & (capacity - 1)) != 0 ||
		size != PICKET_LANE_CONTROL_ + 2 * capacity) {
		munmap(ring, size);
		return picket_lane_fail_(lane, PICKET_LANE_INTERNAL, what, "");
	}
	close(lane->handed);
	lane->handed = -1;
	lane->ring = (unsigned char *)ring;
	lane->capacity = (uint32_t)capacity;
	lane->received = lane->sent = 0;
	return PICKET_LANE_OK;
}

/* send sends all of b. A frame that is sent in part ends the connection. */
static inline int picket_lane_send_(struct picket_lane *lane, const unsigned char *b, size_t n, int64_t end, int begun)
{
	if (lane->ring)
		return picket_lane_put_all_(lane, b, n, end, begun);
	while (n > 0) {
		size_t some = PICKET_LANE_MESSAGE_;
		if (n < some)
			some = n;
		ssize_t sent = send(lane->fd, b, some, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent > 0) {
			b += sent;
			n -= (size_t)sent;
			begun = 1;
			continue;
		}
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
			return picket_lane_lost_(lane, strerror(errno));
		int failed = picket_lane_wait_(lane, POLLOUT, end);
		if (failed) {
			if (begun)
				picket_lane_hang_up_(lane);
			return failed;
		}
	}
	return PICKET_LANE_OK;
}

/* receive reads what the socket has. A descriptor that comes along is kept for a lane that wants a ring. */
static inline ssize_t picket_lane_receive_(struct picket_lane *lane)
{
	union {
		struct cmsghdr first;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec to = {lane->buffer + lane->to, PICKET_LANE_MESSAGE_};
	struct msghdr m;
	memset(&m, 0, sizeof(m));
	m.msg_iov = &to;
	m.msg_iovlen = 1;
	if (lane->wants_ring) {
		m.msg_control = control.room;
		m.msg_controllen = sizeof(control.room);
	}
	ssize_t n = recvmsg(lane->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 && lane->wants_ring ? CMSG_FIRSTHDR(&m) : NULL;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) {
		if (lane->handed >= 0)
			close(lane->handed);
		memcpy(&lane->handed, CMSG_DATA(c), sizeof(int));
	}
	return n;
}

/* fill reads more behind what is unread, of which at most a message's size may be left. */
static inline int picket_lane_fill_(struct picket_lane *lane, int64_t end)
{
	if (lane->from > 0) {
		memmove(lane->buffer, lane->buffer + lane->from, lane->to - lane->from);
		lane->to -= lane->from;
		lane->from = 0;
	}
	if (lane->ring)
		return picket_lane_take_(lane, end);
	for (;;) {
		ssize_t n = picket_lane_receive_(lane);
		if (n > 0) {
			lane->to += (size_t)n;
			return PICKET_LANE_OK;
		}
		if (n == 0)
			return picket_lane_lost_(lane, "the daemon closed it");
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return picket_lane_lost_(lane, strerror(errno));
		int failed = picket_lane_wait_(lane, POLLIN, end);
		if (failed)
			return failed;
	}
}

/* read copies the next n bytes to b, or drops them where b is NULL. */
static inline int picket_lane_read_(struct picket_lane *lane, void *b, size_t n, int64_t end)
{
	unsigned char *to = (unsigned char *)b;
	while (n > 0) {
		if (lane->from == lane->to) {
			int failed = picket_lane_fill_(lane, end);
			if (failed)
				return failed;
		}
		size_t some = lane->to - lane->from < n ? lane->to - lane->from : n;
		if (to) {
			memcpy(to, lane->buffer + lane->from, some);
			to += some;
		}
		lane->from += some;
		n -= some;
	}
	return PICKET_LANE_OK;
}

static inline void picket_lane_header_(unsigned char *b, const struct picket_lane_frame_ *f)
{
	b[0] = 'P';
	b[1] = 'K';
	b[2] = 1;
	b[3] = (unsigned char)f->kind;
	picket_lane_put_(b + 4, f->payload, 4);
	picket_lane_put_(b + 8, f->id, 8);
	picket_lane_put_(b + 16, f->handle, 4);
	picket_lane_put_(b + 20, f->rows, 4);
	picket_lane_put_(b + 24, f->deadline, 4);
	picket_lane_put_(b + 28, f->flags, 4);
}

/* next waits for a header. Until it is whole nothing is consumed, so that a timeout leaves the connection usable. */
static inline int picket_lane_next_(struct picket_lane *lane, struct picket_lane_frame_ *f, int64_t end)
{
	while (lane->to - lane->from < PICKET_LANE_HEADER_) {
		int failed = picket_lane_fill_(lane, end);
		if (failed)
			return failed;
	}
	const unsigned char *b = lane->buffer + lane->from;
	if (b[0] != 'P' || b[1] != 'K' || b[2] != 1) {
		picket_lane_hang_up_(lane);
		return picket_lane_fail_(lane, PICKET_LANE_INTERNAL, "what answers does not speak version 1 of the lane", "");
	}
	f->kind = b[3];
	f->payload = (uint32_t)picket_lane_get_(b + 4, 4);
	f->id = picket_lane_get_(b + 8, 8);
	f->handle = (uint32_t)picket_lane_get_(b + 16, 4);
	f->rows = (uint32_t)picket_lane_get_(b + 20, 4);
	f->deadline = (uint32_t)picket_lane_get_(b + 24, 4);
	f->flags = (uint32_t)picket_lane_get_(b + 28, 4);
	lane->from += PICKET_LANE_HEADER_;
	return PICKET_LANE_OK;
}

/* said reads an error's payload and returns its code. */
static inline int picket_lane_said_(struct picket_lane *lane, const struct picket_lane_frame_ *f, int64_t end)
{
	unsigned char b[8];
	char sentence[1025];
	if (f->payload < sizeof(b)) {
		picket_lane_hang_up_(lane);
		return picket_lane_fail_(lane, PICKET_LANE_INTERNAL, "the daemon sent an error that cannot be read", "");
	}
	size_t n = f->payload - sizeof(b), some = n < sizeof(sentence) - 1 ? n : sizeof(sentence) - 1;
	int failed = picket_lane_read_(lane, b, sizeof(b), end);
	if (!failed)
		failed = picket_lane_read_(lane, sentence, some, end);
	if (!failed)
		failed = picket_lane_read_(lane, NULL, n - some, end);
	if (failed) {
		picket_lane_hang_up_(lane);
		return failed;
	}
	sentence[some] = 0;
	int code = (int)picket_lane_get_(b, 4);
	picket_lane_fail_(lane, code, sentence, "");
	lane->retry_after = (uint32_t)picket_lane_get_(b + 4, 4);
	if (f->flags & 1)
		picket_lane_hang_up_(lane);
	return code > 0 ? code : PICKET_LANE_INTERNAL;
}

/* answer waits for the frame that answers request id and is of that kind; others' are dropped. */
static inline int picket_lane_answer_(struct picket_lane *lane, uint64_t id, unsigned kind, struct picket_lane_frame_ *f, int64_t end)
{
	for (;;) {
		int failed = picket_lane_next_(lane, f, end);
		if (failed)
			return failed;
		if (f->kind == PICKET_LANE_GOODBYE_) {
			lane->leaving = 1;
		} else if (f->kind == PICKET_LANE_ERROR_ && (f->id == id || (f->flags & 1))) {
			return picket_lane_said_(lane, f, end);
		} else if (f->kind == kind && f->id == id) {
			return PICKET_LANE_OK;
		}
		failed = picket_lane_read_(lane, NULL, f->payload, end); /* nothing, or the answer to a request given up */
		if (failed) {
			picket_lane_hang_up_(lane); /* in the middle of a frame */
			return failed;
		}
	}
}

/* connect makes a connection and greets, unless there is one. */
static inline int picket_lane_connect_(struct picket_lane *lane, int64_t end)
{
	static const int types[] = {SOCK_SEQPACKET, SOCK_STREAM};
	if (lane->fd >= 0 && !lane->leaving)
		return PICKET_LANE_OK;
	picket_lane_hang_up_(lane);
	struct sockaddr_un address;
	memset(&address, 0, sizeof(address));
	address.sun_family = AF_UNIX;
	memcpy(address.sun_path, lane->path, sizeof(lane->path));
	for (int i = 0; i < 2; i++) {
		lane->fd = socket(AF_UNIX, types[i] | SOCK_CLOEXEC, 0);
		if (lane->fd < 0)
			return picket_lane_fail_(lane, PICKET_LANE_UNAVAILABLE, "making a socket", strerror(errno));
		if (connect(lane->fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			break;
		int why = errno;
		picket_lane_hang_up_(lane);
		if (why != EPROTOTYPE || i == 1) {
			char what[200];
			snprintf(what, sizeof(what), "connecting to the lane at %s", lane->path);
			return picket_lane_fail_(lane, PICKET_LANE_UNAVAILABLE, what, strerror(why));
		}
	}
	lane->connection++;
	unsigned char hello[PICKET_LANE_HEADER_ + 8];
	struct picket_lane_frame_ f = {PICKET_LANE_HELLO_, 8, 0, 0, 0, 0, 0};
	picket_lane_header_(hello, &f);
	picket_lane_put_(hello + PICKET_LANE_HEADER_, 1, 2);
	picket_lane_put_(hello + PICKET_LANE_HEADER_ + 2, 1, 2);
	picket_lane_put_(hello + PICKET_LANE_HEADER_ + 4, lane->wants_ring ? PICKET_LANE_RING_ : 0, 4);
	int failed = picket_lane_send_(lane, hello, sizeof(hello), end, 0);
	if (!failed)
		failed = picket_lane_answer_(lane, 0, PICKET_LANE_WELCOME_, &f, end);
	unsigned char welcome[24 + sizeof(lane->number)];
	memset(welcome, 0, sizeof(welcome)); /* older daemons leave out the connection's number */
	if (!failed && f.payload < 24)
		failed = picket_lane_fail_(lane, PICKET_LANE_INTERNAL, "the daemon's greeting is too short", "");
	size_t known = f.payload < sizeof(welcome) ? f.payload : sizeof(welcome);
	if (!failed)
		failed = picket_lane_read_(lane, welcome, known < 40 ? 24 : known, end);
	if (!failed)
		failed = picket_lane_read_(lane, NULL, f.payload - (known < 40 ? 24 : known), end);
	if (!failed && picket_lane_get_(welcome, 2) != 1)
		failed = picket_lane_fail_(lane, PICKET_LANE_FAILED_PRECONDITION, "the daemon speaks another version of the lane", "");
	if (!failed && lane->wants_ring && (picket_lane_get_(welcome + 4, 4) & PICKET_LANE_RING_))
		failed = picket_lane_map_(lane);
	if (failed)
		picket_lane_hang_up_(lane);
	else {
		lane->max_payload = (uint32_t)picket_lane_get_(welcome + 12, 4);
		memcpy(lane->number, welcome + 24, sizeof(lane->number));
	}
	return failed;
}

static inline size_t picket_lane_element_(int type)
{
	static const unsigned char sizes[] = {0, 1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 2};
	return type > 0 && type < (int)sizeof(sizes) ? sizes[type] : 0;
}

static inline size_t picket_lane_size(const struct picket_lane_tensor *t, uint32_t rows)
{
	if (t->dimensions == 0 || t->dims[0] != -1)
		return t->row_bytes;
	return rows > 0 && t->row_bytes > SIZE_MAX / rows ? SIZE_MAX : t->row_bytes * rows;
}

/* describe reads a signature of n bytes. */
static inline int picket_lane_describe_(struct picket_lane *lane, struct picket_lane_model *m, size_t n, int64_t end)
{
	static const char what[] = "the daemon described the model in a way that cannot be";
	unsigned char b[8 * PICKET_LANE_DIMENSIONS];
	int failed = n < 4 ? picket_lane_fail_(lane, PICKET_LANE_INTERNAL, what, "") : picket_lane_read_(lane, b, 4, end);
	if (failed)
		return failed;
	n -= 4;
	m->inputs = (int)picket_lane_get_(b, 2);
	m->outputs = (int)picket_lane_get_(b + 2, 2);
	if (m->inputs + m->outputs > PICKET_LANE_TENSORS)
		return picket_lane_fail_(lane, PICKET_LANE_UNIMPLEMENTED, "the model has more tensors than this client knows of", "");
	for (int i = 0; i < m->inputs + m->outputs; i++) {
		struct picket_lane_tensor *t = &m->tensors[i];
		memset(t, 0, sizeof(*t));
		if (n < 4)
			return picket_lane_fail_(lane, PICKET_LANE_INTERNAL, what, "");
		if ((failed = picket_lane_read_(lane, b, 4, end)))
			return failed;
		t->type = b[0];
		t->dimensions = b[1];
		size_t name = (size_t)picket_lane_get_(b + 2, 2), dims = 8 * (size_t)t->dimensions;
		t->row_bytes = picket_lane_element_(t->type);
		if (t->dimensions > PICKET_LANE_DIMENSIONS || t->row_bytes == 0 || n - 4 < dims + name)
			return picket_lane_fail_(lane, PICKET_LANE_INTERNAL, what, "");
		n -= 4 + dims + name;
		if ((failed = picket_lane_read_(lane, b, dims, end)))
			return failed;
		for (int d = 0; d < t->dimensions; d++) {
			uint64_t size = picket_lane_get_(b + 8 * d, 8);
			t->dims[d] = (int64_t)size;
			if (d == 0 && t->dims[0] == -1)
				continue;
			if (t->dims[d] < 0 || (size > 0 && t->row_bytes > SIZE_MAX / size))
				return picket_lane_fail_(lane, PICKET_LANE_INTERNAL, what, "");
			t->row_bytes *= (size_t)size;
		}
		size_t some = name < sizeof(t->name) - 1 ? name : sizeof(t->name) - 1;
		if ((failed = picket_lane_read_(lane, t->name, some, end)) || (failed = picket_lane_read_(lane, NULL, name - some, end)))
			return failed;
	}
	return n == 0 ? PICKET_LANE_OK : picket_lane_fail_(lane, PICKET_LANE_INTERNAL, what, "");
}

/* open_here opens a model on the connection that there is. */
static inline int picket_lane_open_here_(struct picket_lane *lane, const char *name, struct picket_lane_model *m, int64_t end)
{
	unsigned char b[PICKET_LANE_HEADER_ + sizeof(m->name)];
	size_t n = strlen(name);
	struct picket_lane_frame_ f = {PICKET_LANE_OPEN_, (uint32_t)n, 0, 0, 0, 0, ++lane->id};
	picket_lane_header_(b, &f);
	memcpy(b + PICKET_LANE_HEADER_, name, n);
	int failed = picket_lane_send_(lane, b, PICKET_LANE_HEADER_ + n, end, 0);
	if (!failed)
		failed = picket_lane_answer_(lane, lane->id, PICKET_LANE_MODEL_, &f, end);
	if (failed)
		return failed;
	memset(m, 0, sizeof(*m));
	memcpy(m->name, name, n + 1);
	failed = picket_lane_describe_(lane, m, f.payload, end);
	if (failed) {
		picket_lane_hang_up_(lane); /* in the middle of a frame */
		return failed;
	}
	m->handle = f.handle;
	m->connection = lane->connection;
	return PICKET_LANE_OK;
}

static inline int picket_lane_open(struct picket_lane *lane, const char *name, int timeout_ms, struct picket_lane_model *model)
{
	int64_t end = picket_lane_end_(timeout_ms);
	char copy[sizeof(model->name)];
	if (strlen(name) == 0 || strlen(name) >= sizeof(copy))
		return picket_lane_fail_(lane, PICKET_LANE_NOT_FOUND, "no model has a name that is empty or longer than 255 bytes", "");
	memcpy(copy, name, strlen(name) + 1); /* name may lie in *model */
	int failed = PICKET_LANE_OK;
	for (int attempt = 0; attempt < 2; attempt++) {
		int fresh = lane->fd < 0 || lane->leaving;
		failed = picket_lane_connect_(lane, end);
		if (!failed)
			failed = picket_lane_open_here_(lane, copy, model, end);
		if (failed != PICKET_LANE_UNAVAILABLE || fresh)
			break;
	}
	return failed;
}

/* reopen gives the model a handle on the connection of now. */
static inline int picket_lane_reopen_(struct picket_lane *lane, struct picket_lane_model *model, int64_t end)
{
	if (model->connection == lane->connection)
		return PICKET_LANE_OK;
	struct picket_lane_model *now = (struct picket_lane_model *)malloc(sizeof(*now));
	if (!now)
		return picket_lane_fail_(lane, PICKET_LANE_RESOURCE_EXHAUSTED, "there is no memory to open the model again", "");
	int failed = picket_lane_open_here_(lane, model->name, now, end);
	if (!failed && (now->inputs != model->inputs || now->outputs != model->outputs ||
		memcmp(now->tensors, model->tensors, sizeof(now->tensors)) != 0))
		failed = picket_lane_fail_(lane, PICKET_LANE_FAILED_PRECONDITION, "another model with other tensors has the name now: open it again", "");
	if (!failed) {
		model->handle = now->handle;
		model->connection = now->connection;
	}
	free(now);
	return failed;
}

/* predict_here asks on the connection that there is. */
static inline int picket_lane_predict_here_(struct picket_lane *lane, const struct picket_lane_model *m, uint32_t rows,
	const void *const *in, void *const *out, int64_t end)
{
	size_t size = 0, answer = 0;
	for (int i = 0; i < m->inputs + m->outputs; i++) {
		size_t n = picket_lane_size(&m->tensors[i], rows), *sum = i < m->inputs ? &size : &answer;
		if (n > UINT32_MAX || *sum + n > lane->max_payload)
			return picket_lane_fail_(lane, PICKET_LANE_INVALID_ARGUMENT, "the rows are more than the daemon takes or gives at once", "");
		*sum += n;
	}
	struct picket_lane_frame_ f = {PICKET_LANE_PREDICT_, (uint32_t)size, m->handle, rows, 0, 0, ++lane->id};
	if (end >= 0) {
		int64_t left = end - picket_lane_now_();
		if (left <= 0)
			return picket_lane_fail_(lane, PICKET_LANE_DEADLINE_EXCEEDED, "no time is left to ask", "");
		f.deadline = left > UINT32_MAX / 1000 ? 0 : (uint32_t)left * 1000;
	}
	memcpy(lane->asked_on, lane->number, sizeof(lane->asked_on));
	lane->asked = lane->id;
	unsigned char small[4096];
	int failed, whole = PICKET_LANE_HEADER_ + size <= sizeof(small);
	picket_lane_header_(small, &f);
	if (whole) { /* with one call */
		unsigned char *b = small + PICKET_LANE_HEADER_;
		for (int i = 0; i < m->inputs; i++) {
			size_t n = picket_lane_size(&m->tensors[i], rows);
			memcpy(b, in[i], n);
			b += n;
		}
		failed = picket_lane_send_(lane, small, PICKET_LANE_HEADER_ + size, end, 0);
	} else {
		failed = picket_lane_send_(lane, small, PICKET_LANE_HEADER_, end, 0);
		for (int i = 0; !failed && i < m->inputs; i++)
			failed = picket_lane_send_(lane, (const unsigned char *)in[i], picket_lane_size(&m->tensors[i], rows), end, 1);
	}
	if (!failed)
		failed = picket_lane_answer_(lane, lane->id, PICKET_LANE_RESULT_, &f, end);
	if (failed == PICKET_LANE_DEADLINE_EXCEEDED && lane->fd >= 0) {
		struct picket_lane_frame_ cancel = {PICKET_LANE_CANCEL_, 0, 0, 0, 0, 0, lane->id};
		picket_lane_header_(small, &cancel);
		failed = picket_lane_send_(lane, small, PICKET_LANE_HEADER_, picket_lane_now_(), 0);
		if (!failed || failed == PICKET_LANE_DEADLINE_EXCEEDED)
			return picket_lane_fail_(lane, PICKET_LANE_DEADLINE_EXCEEDED, "no answer in time", "");
	}
	if (failed)
		return failed;
	if (f.payload != answer || f.rows != rows) {
		picket_lane_hang_up_(lane);
		return picket_lane_fail_(lane, PICKET_LANE_INTERNAL, "the daemon answered with another number of bytes than the rows have", "");
	}
	for (int i = 0; i < m->outputs && !failed; i++)
		failed = picket_lane_read_(lane, out[i], picket_lane_size(&m->tensors[m->inputs + i], rows), end);
	if (failed)
		picket_lane_hang_up_(lane); /* in the middle of a frame */
	return failed;
}

static inline int picket_lane_predict(struct picket_lane *lane, struct picket_lane_model *model, uint32_t rows,
	const void *const *in, void *const *out, int timeout_ms)
{
	int64_t end = picket_lane_end_(timeout_ms);
	int failed = PICKET_LANE_OK;
	for (int attempt = 0; attempt < 2; attempt++) {
		int fresh = lane->fd < 0 || lane->leaving;
		failed = picket_lane_connect_(lane, end);
		if (!failed)
			failed = picket_lane_reopen_(lane, model, end);
		if (!failed)
			failed = picket_lane_predict_here_(lane, model, rows, in, out, end);
		if (failed != PICKET_LANE_UNAVAILABLE || fresh)
			break;
	}
	return failed;
}

static inline struct picket_lane *picket_lane_new(const char *path)
{
	struct picket_lane *lane = (struct picket_lane *)calloc(1, sizeof(*lane));
	if (!lane || strlen(path) >= sizeof(lane->path)) {
		free(lane);
		return NULL;
	}
	memcpy(lane->path, path, strlen(path) + 1);
	lane->fd = lane->handed = -1;
	return lane;
}

static inline void picket_lane_free(struct picket_lane *lane)
{
	if (lane)
		picket_lane_hang_up_(lane);
	free(lane);
}

static inline void picket_lane_inference(const struct picket_lane *lane, char name[PICKET_LANE_INFERENCE])
{
	static const unsigned char none[sizeof(lane->asked_on)] = {0};
	name[0] = 0;
	if (lane->asked == 0 || memcmp(lane->asked_on, none, sizeof(none)) == 0)
		return;
	for (size_t i = 0; i < sizeof(lane->asked_on); i++)
		snprintf(name + 2 * i, 3, "%02x", lane->asked_on[i]);
	snprintf(name + 2 * sizeof(lane->asked_on), PICKET_LANE_INFERENCE - 2 * sizeof(lane->asked_on), "-%llu", (unsigned long long)lane->asked);
}

static inline void picket_lane_use_ring(struct picket_lane *lane) { lane->wants_ring = 1; }

static inline int picket_lane_has_ring(const struct picket_lane *lane) { return lane->ring != NULL; }

static inline const char *picket_lane_error(const struct picket_lane *lane) { return lane->error; }

static inline uint32_t picket_lane_retry_after(const struct picket_lane *lane) { return lane->retry_after; }

#ifdef __cplusplus
}
#endif

#endif
