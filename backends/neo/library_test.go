package neo

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/picket-ml/picket/engine"
)

// What the host is short of is not the artifact's fault, nor is it made for another host.
func TestLibraryErrorOfExhaustion(t *testing.T) {
	for _, cause := range []error{syscall.ENOMEM, syscall.ENOSPC, syscall.EMFILE, syscall.ENFILE} {
		err := LibraryError(fmt.Errorf("libm.so.6: cannot open shared object file: %w", cause))
		if !errors.Is(err, engine.ErrMemory) || errors.Is(err, engine.ErrHost) || errors.Is(err, engine.ErrArtifact) {
			t.Errorf("%v", err)
		}
	}
}
