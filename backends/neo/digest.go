package neo

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
)

// CheckDigest is a check that the layout's library is, to the last bit, the one
// that the metadata was written for; it passes where the metadata does not say.
//
// It finds damage, on a disk or on the way, of which the loader finds little: a
// bit that changed in code or in a table of leaves is a wrong answer or the end
// of the process. It is no signature: who can change the library can change the
// metadata too. Errors wrap engine.ErrArtifact.
func (m Metadata) CheckDigest(l Layout) dl.Check {
	return func(library io.ReaderAt, size int64) error {
		if m.LibrarySHA256 == "" {
			return nil
		}
		if size > dl.MaxFileSize {
			return fmt.Errorf("%w: %s has %d bytes, more than the %d that fit a library", engine.ErrArtifact, l.Library, size, dl.MaxFileSize)
		}
		digest := sha256.New()
		if _, err := io.Copy(digest, io.NewSectionReader(library, 0, size)); err != nil {
			return fmt.Errorf("%w: reading %s: %w", engine.ErrArtifact, l.Library, err)
		}
		if hex.EncodeToString(digest.Sum(nil)) != m.LibrarySHA256 {
			return fmt.Errorf("%w: %s is not the file that %s was written for: its SHA-256 differs; compile it again or copy it whole",
				engine.ErrArtifact, l.Library, l.Metadata)
		}
		return nil
	}
}

// parseDigest reads a SHA-256 digest, nil for none. Its errors begin with the
// predicate of a sentence about the key.
func parseDigest(s *string) (string, error) {
	if s == nil {
		return "", nil
	}
	if sum, err := hex.DecodeString(*s); err != nil || len(sum) != sha256.Size {
		return "", errors.New("is not a SHA-256 digest, which is 64 hexadecimal digits")
	}
	return strings.ToLower(*s), nil
}
