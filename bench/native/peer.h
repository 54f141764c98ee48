// Other libraries that run tree models, called as a C program would call them. Nothing of them is needed to build: they are
// opened by path, and the few functions are declared by hand.

#ifndef PICKET_BENCH_PEER_H
#define PICKET_BENCH_PEER_H

#include <stddef.h>
#include <stdint.h>

// rows is one call's input, the same values twice, because some libraries take floats and some doubles. Both are row-major.
typedef struct {
  const float *single;
  const double *wide;
  int64_t rows;
} peer_rows;

// peer is one library with one model. It is used by one thread at a time.
typedef struct peer {
  // Predicts r->rows rows, writes outputs floats a row to out, and returns the nanoseconds that the library's own calls took:
  // what makes floats of its answers is outside the time. After an error it returns -1, and problem says why.
  int64_t (*run)(struct peer *, const peer_rows *r, float *out);
  // Frees what the library holds, less what peer_close frees; NULL where that is nothing.
  void (*release)(struct peer *);
  int64_t features, outputs;
  double *wide; // of peer_wide
  int64_t room; // answers that wide holds
  char problem[512];
} peer;

// peer_open_KIND opens library with model, for threads threads. It returns NULL after an error, which it writes to problem, of
// peer_problem_size bytes. The caller calls
// peer_close.
enum { peer_problem_size = 512 };
typedef peer *peer_opener(const char *library, const char *model, int64_t features, int64_t outputs, int threads, char *problem);
peer_opener peer_open_xgboost, peer_open_lightgbm, peer_open_onnxruntime, peer_open_onnxruntime_cuda, peer_open_gtil, peer_open_lleaves, peer_open_tl2cgen, peer_open_treelite, peer_open_onedal;

// peer_close frees the peer, which starts with calloc's memory, and all that it holds.
void peer_close(peer *);

// For the files of this folder.
int64_t peer_now(void);                                                       // nanoseconds
void *peer_library(const char *path, char *problem);                          // NULL after an error
int peer_symbol(void *library, const char *name, void *address, char *problem); // 0 after an error; address is a void**
// For libraries that answer in doubles. peer_wide gives memory for the answers to so many rows, one or more, which the peer keeps for later
// calls; it returns NULL after an error, which it writes to problem. peer_narrow makes floats of what was written there.
double *peer_wide(peer *, int64_t rows);
void peer_narrow(const peer *, int64_t rows, float *out);

#endif
