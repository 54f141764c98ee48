//go:build !cgo || !linux

package onnx

import (
	"sync/atomic"

	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/tensor"
)

// OpenSessions is 0: nothing can be opened.
func OpenSessions() int { return 0 }

var keptLibraries atomic.Int64 // none

// library cannot exist in this build: openLibrary always fails.
type library struct {
	path, version string
	providers     []string
}

func openLibrary(string) (*library, error) { return nil, dl.Probe() }

func (*library) start(int) error { return dl.Probe() }
func (*library) started() bool   { return false }
func (*library) close() error    { return nil }
func (*library) has(string) bool { return false }

func (*library) newSession(*tensor.Buffer, []weights, sessionOptions) (*session, error) {
	return nil, dl.Probe()
}

// session cannot exist either.
type session struct {
	inputs, outputs []value
}

func (*session) close()                  {}
func (*session) abandon()                {}
func (*session) newCall() (*call, error) { return nil, dl.Probe() }

// call cannot exist either.
type call struct{}

func (*call) close()                                 {}
func (*call) run(_, _ []tensor.Tensor, _ bool) error { return dl.Probe() }
func (*call) try([]tensor.Tensor) ([]value, error)   { return nil, dl.Probe() }
