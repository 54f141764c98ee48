package upload

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
)

// Item is an object on its way.
type Item struct {
	Key  string
	Body []byte
	// Kind is what the audit log calls it.
	Kind string
	// Content is the digest of the Size bytes before compression: what an object of this
	// key has, whoever compressed it.
	Content     [sha256.Size]byte
	Size        int
	ContentType string
	// Notes are kept with the object where the destination can: S3's metadata.
	Notes map[string]string
}

// Destination is where objects go. Its methods may be called by several goroutines, and
// give up when ctx ends.
type Destination interface {
	// URL is the name of an object for the audit log and for other objects.
	URL(key string) string
	// Put stores an object, and returns when the destination has it, with the
	// destination's word for what it has. One that is there with the same content is
	// success; what else has the key is an error and stays as it is.
	Put(ctx context.Context, item *Item) (tag string, err error)
	// Has tells whether an object is there, and what its tag is.
	Has(ctx context.Context, key string) (tag string, ok bool, err error)
	// Close gives up what it holds.
	Close() error
}

// ErrTaken is that of a key which another object has.
var ErrTaken = errors.New("another object has the name")

func taken(url string) error {
	return fmt.Errorf("storing %s: %w, and is not replaced: somebody else writes to the destination, or the device's name is used twice", url, ErrTaken)
}

func hexOf(digest [sha256.Size]byte) string { return hex.EncodeToString(digest[:]) }

func base64Of(digest [sha256.Size]byte) string { return base64.StdEncoding.EncodeToString(digest[:]) }
