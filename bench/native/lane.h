// A caller of a lane in a closed loop, through the C client, as callers in C are: each has a thread of its own, which nothing but the kernel puts
// on a processor. The loop is C from the choice of the rows to the comparison of the answers.

#ifndef PICKET_BENCH_LANE_H
#define PICKET_BENCH_LANE_H

#include <stdint.h>

typedef struct lane_caller lane_caller;

// A request that was timed: when it was sent and when its answer was there, in nanoseconds from a load's origin, how many before it were answered
// and not timed, and what the client said of it: 0, or a code of the lane.
typedef struct {
  int64_t sent, back;
  uint32_t others;
  int32_t code;
} lane_timed;

// A load. The last five are told.
typedef struct {
  int64_t origin;   // on lane_now's clock
  int64_t end;      // from the origin: none is sent later
  uint32_t every;   // one of so many is timed, at random; 0 for none
  double tolerance; // of answers
  int64_t asked;    // answered, where none is timed
  int64_t took;     // there, the time from the origin
  int64_t wrong;    // requests with an answer that is not the reference's,
  int64_t row;      // the first row of them,
  float answer;     // and its answer
} lane_load;

// Nanoseconds on the clock that loads are timed with.
int64_t lane_now(void);

// Connects a caller whose requests are of so many rows, of row_bytes each; seed is for the choice of them. NULL without memory. It is connected where
// lane_problem says nothing.
lane_caller *lane_connect(const char *socket, const char *model, int ring, uint32_t rows, uint32_t row_bytes, uint64_t seed);

// What went wrong last, in a sentence; empty where nothing has.
const char *lane_problem(const lane_caller *);

// In how many microseconds the daemon said to ask again, with the last refusal.
uint32_t lane_retry_after(const lane_caller *);

// Asks about rows that lie together among the count that there are, one request after the other, until the load's end, and writes what was timed to
// timed, which has room for some. Returns how many that are: all of the room where the load goes on, and it also returns when a request has no answer,
// whose code is then the last one's. answers has the reference, one number a row, or is NULL.
int64_t lane_drive(lane_caller *, lane_load *, const void *rows, const float *answers, int64_t count, lane_timed *timed, int64_t room);

// Ends the caller's connection and with that a request under way. Any thread may call it, as long as the caller is there.
void lane_stop(lane_caller *);

// Gives everything back; NULL does nothing.
void lane_free(lane_caller *);

#endif
