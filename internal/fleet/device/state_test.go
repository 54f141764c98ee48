package device

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/edge"
)

func sample() *state {
	p := &fleet.Package{
		Name: "fraud", Version: "1", Digest: "sha256:" + strings.Repeat("a", 64), File: "packages/fraud-1.tar.gz", Size: 10, SHA256: strings.Repeat("b", 64), SHA1: strings.Repeat("c", 40),
	}
	return &state{Format: stateFormat, Models: map[string]*modelState{"fraud": {
		Serving: p, ID: "r1", New: true, Before: p, Bake: &bake{Health: fleet.DefaultHealth()}, Trying: &trying{"r2", p.Digest, 1},
		Failed: []failure{{"r0", p.Digest, "why"}}, Reports: []*edge.DeploymentResult{{DeploymentName: "r1"}},
	}}}
}

// A state that is damaged is said to be, and is not taken for an empty one.
func TestDamagedState(t *testing.T) {
	data, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), stateFile)
	for n := 0; n < len(data); n += 7 {
		if err := os.WriteFile(path, data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readState(path); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readState(path); err != nil {
		t.Error(err)
	}
}

// FuzzState: what is taken can be written and read again.
func FuzzState(f *testing.F) {
	good, _ := json.Marshal(sample())
	f.Add(good)
	f.Add([]byte(`{"picket_device":1,"models":{"fraud":null}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseState(data)
		if err != nil {
			return
		}
		once, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseState(once)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if twice, _ := json.Marshal(again); !bytes.Equal(once, twice) {
			t.Fatalf("%s became %s", once, twice)
		}
	})
}
