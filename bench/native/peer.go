//go:build cgo && linux

package native

// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// #include "peer.h"
//
// // In the order of the constants in Go.
// static peer *bench_open(int kind, const char *library, const char *model, int64_t features, int64_t outputs, int threads, char *problem) {
//   static peer_opener *const openers[] = {peer_open_xgboost, peer_open_lightgbm, peer_open_onnxruntime, peer_open_gtil,
//                                          peer_open_lleaves, peer_open_tl2cgen, peer_open_treelite,
//                                          peer_open_onnxruntime_cuda, peer_open_onedal};
//   return openers[kind](library, model, features, outputs, threads, problem);
// }
// static int64_t bench_run(peer *p, const float *single, const double *wide, int64_t rows, float *out) {
//   peer_rows r = {single, wide, rows};
//   return p->run(p, &r, out);
// }
// static const char *bench_problem(peer *p) { return p->problem; }
import "C"

import (
	"fmt"
	"time"
	"unsafe"

	"github.com/picket-ml/picket/tensor"
)

// Kind is a way to call a library that runs tree models.
type Kind int

// The kinds. Each opens the library named and, beside the compilers' own output, the model file.
const (
	XGBoost         Kind = iota // libxgboost.so, model .ubj
	LightGBM                    // lib_lightgbm.so, model .txt
	ONNXRuntime                 // libonnxruntime.so, model .onnx with one input, whose last output counts
	GTIL                        // libtreelite.so of version 4, model .ubj or .txt
	Lleaves                     // a library that lleaves compiled, in double precision
	TL2cgen                     // a library that TL2cgen compiled
	Treelite                    // a library with Treelite's predict or predict_multiclass, of float32
	ONNXRuntimeCUDA             // ONNXRuntime on the first GPU
	OneDAL                      // what bench/peers/onedal compiles to, model as oneDAL serializes it
)

func (k Kind) String() string {
	return [...]string{"XGBoost", "LightGBM", "ONNX Runtime", "GTIL", "lleaves", "TL2cgen", "Treelite", "ONNX Runtime on a GPU", "oneDAL"}[k]
}

// Peer is one library with one model. It is used by one goroutine at a time, and its owner calls Close.
type Peer struct {
	kind Kind
	c    *C.peer
}

// Task says what a Peer is opened for.
type Task struct {
	Library, Model    string // paths; the compiled kinds have no model
	Features, Outputs int
	Threads           int
}

// OpenPeer loads the library into this process, for good.
func OpenPeer(k Kind, t Task) (*Peer, error) {
	library, model := C.CString(t.Library), C.CString(t.Model)
	defer C.free(unsafe.Pointer(library))
	defer C.free(unsafe.Pointer(model))
	problem := (*C.char)(C.calloc(1, C.peer_problem_size))
	defer C.free(unsafe.Pointer(problem))
	p := C.bench_open(C.int(k), library, model, C.int64_t(t.Features), C.int64_t(t.Outputs), C.int(t.Threads), problem)
	if p == nil {
		return nil, fmt.Errorf("opening %s: %s", k, C.GoString(problem))
	}
	return &Peer{k, p}, nil
}

// Run predicts the rows of in, FP32 [rows, features], which wide holds as FP64, into out, FP32 [rows, outputs]. It returns
// how long the library's own calls took.
func (p *Peer) Run(in, wide, out tensor.Tensor) (time.Duration, error) {
	took := C.bench_run(p.c, (*C.float)(tensor.Pointer(in)), (*C.double)(tensor.Pointer(wide)), C.int64_t(in.Shape.Dim(0)), (*C.float)(tensor.Pointer(out)))
	if took < 0 {
		return 0, fmt.Errorf("%s: %s", p.kind, C.GoString(C.bench_problem(p.c)))
	}
	return time.Duration(took), nil
}

// Close frees the model. The library stays loaded: not all of them can be unloaded.
func (p *Peer) Close() error {
	C.peer_close(p.c)
	return nil
}
