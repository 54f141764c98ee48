package fleet

import (
	"context"
	"errors"
	"os"
)

// Bucket is where a fleet's documents and packages lie, below one prefix. Its methods
// may be called by many goroutines at once.
type Bucket interface {
	// Get reads a small object of at most limit bytes. With an etag it fails with
	// ErrNotModified where the object still has it; ErrAbsent where there is none.
	Get(ctx context.Context, key, etag string, limit int64) (data []byte, newTag string, err error)
	// Put writes an object if the condition holds, and fails with ErrConflict where it
	// does not.
	Put(ctx context.Context, key string, data []byte, c Condition) error
	// Upload writes a large object where there is none, or the very same. It fails with
	// ErrConflict where there is another.
	Upload(ctx context.Context, key string, from *os.File) error
	// Download reads an object into the file at path, which is replaced when all is
	// there; what an earlier try has left is used. size is what it must have, or AnySize.
	Download(ctx context.Context, key, path string, size int64) error
	// URL is where an object lies, for people and for the old API.
	URL(key string) string
}

// AnySize is a size that nobody knows beforehand.
const AnySize = -1

// Condition is what must hold for an object to be written. The zero value is nothing.
type Condition struct {
	// Absent wants that there is no such object, Tag that it has this one.
	Absent bool
	Tag    string
}

// What a Bucket says.
var (
	ErrAbsent      = errors.New("there is no such object")
	ErrNotModified = errors.New("it has not changed")
	ErrConflict    = errors.New("somebody else has written it")
)
