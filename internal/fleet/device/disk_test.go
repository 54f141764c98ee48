package device

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/testkit/disktrace"
)

// KeepStates writes down a few times what a device serves, in a new folder, and says each time that it is known.
func KeepStates(dir string) error {
	dir = filepath.Join(dir, "var", "fleet")
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	for n := range 3 {
		s := &state{Format: stateFormat, Models: map[string]*modelState{"fraud": {Starts: n}}}
		err = errors.Join(err, s.write(filepath.Join(dir, stateFile)))
		fmt.Printf(disktrace.Marker+"state %d\n", n)
	}
	return err
}
