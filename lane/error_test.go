package lane

import (
	"errors"
	"testing"
)

// TestErrorInASentence shows that an error names its code, and once only where the daemon's sentence begins with it.
func TestErrorInASentence(t *testing.T) {
	for _, test := range []struct {
		err  *Error
		want string
	}{
		{&Error{Code: NotFound, Sentence: `not found: no model is loaded as "x"`}, `not found: no model is loaded as "x"`},
		{&Error{Code: InvalidArgument, Sentence: "3 numbers are no rows"}, "invalid argument: 3 numbers are no rows"},
		{&Error{Code: Unavailable, Sentence: "connecting", cause: errors.New("refused")}, "unavailable: connecting: refused"},
		{&Error{Code: 99, Sentence: "odd"}, "code 99: odd"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
