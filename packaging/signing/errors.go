package signing

import (
	"errors"
	"fmt"
	"time"
)

// The kinds of failure that a caller can act on.
var (
	// ErrBundle: the signature is not of the one form that is read here, or is damaged.
	ErrBundle = errors.New("unusable signature")
	// ErrUntrusted: it is sound, or may be, and was made by nobody who may.
	ErrUntrusted = errors.New("signed by nobody who is trusted")
	// ErrMismatch: it was made over other files.
	ErrMismatch = errors.New("the signature is for other files")
)

// ValidityError says that a certificate was not valid at the time it was asked for. It is an ErrUntrusted.
type ValidityError struct {
	Subject             string
	NotBefore, NotAfter time.Time
	At                  time.Time
}

// Error says which clock to look at, because more hosts have a wrong clock than a certificate of the future.
func (e *ValidityError) Error() string {
	if e.At.Before(e.NotBefore) {
		return fmt.Sprintf("%v: the certificate of %s is valid from %s, and the clock of this host says %s: set the clock",
			ErrUntrusted, e.Subject, date(e.NotBefore), date(e.At))
	}
	return fmt.Sprintf("%v: the certificate of %s expired at %s, and it is %s now: sign the package again with a new one",
		ErrUntrusted, e.Subject, date(e.NotAfter), date(e.At))
}

// Is makes it an ErrUntrusted.
func (e *ValidityError) Is(target error) bool { return target == ErrUntrusted }

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrBundle, fmt.Errorf(format, args...))
}

func untrusted(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUntrusted, fmt.Errorf(format, args...))
}
