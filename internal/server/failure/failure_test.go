package failure

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/picket-ml/picket/engine"
)

func TestCode(t *testing.T) {
	for err, want := range map[error]codes.Code{
		nil: codes.OK,
		fmt.Errorf("predicting: %w: 3 requests are waiting already", engine.ErrBusy): codes.ResourceExhausted,
		fmt.Errorf("%w: no model is loaded as %q", engine.ErrNotFound, "a"):          codes.NotFound,
		fmt.Errorf("waiting: %w", context.DeadlineExceeded):                          codes.DeadlineExceeded,
		errors.New("something else"):                                                 codes.Internal,
	} {
		if got := Code(err); got != want {
			t.Errorf("%v has the code %v, want %v", err, got, want)
		}
	}
}

func TestShorten(t *testing.T) {
	for in, want := range map[string]string{
		"short":                       "short",
		strings.Repeat("x", 10):       strings.Repeat("x", 10),
		strings.Repeat("x", 11):       strings.Repeat("x", 6) + " ...",
		"12345" + "\u00e9" + "678901": "12345 ...",
		"bad\xff":                     "bad",
	} {
		if got := Shorten(in, 10); got != want || !utf8.ValidString(got) {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
