package testkit

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Output collects what several goroutines or a process write, such as a log. The zero Output is empty.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// Reset forgets what was written so far.
func (o *Output) Reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b.Reset()
}

// String is what was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// LogOf has a stand-in library write down what it is asked, from now on, in the file that this variable of the environment names;
// what it returns reads the lines so far.
func LogOf(t testing.TB, variable string) func() []string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "log")
	t.Setenv(variable, name)
	return func() []string {
		data, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' })
	}
}
