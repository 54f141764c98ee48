package enginetest

import (
	"context"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
)

// NewEngine makes an engine with one backend, which behaves as the script says, on a host of two cores. Every url is an artifact unless
// o has another source. The test ends with the engine closed.
func NewEngine(t testing.TB, s Script, o engine.Options) *engine.Engine {
	t.Helper()
	o.Host, o.Backends = &hw.Host{CPU: hw.CPU{CoresAllowed: 2}}, []engine.Backend{New(s)}
	if o.Source == nil {
		o.Source = Source{Dir: t.TempDir()}
	}
	e, err := engine.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return e
}
