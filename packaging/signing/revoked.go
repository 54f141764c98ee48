package signing

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"

	"github.com/picket-ml/picket/packaging"
)

// MaxRevokedBytes bounds a list of what was revoked.
const MaxRevokedBytes = 1 << 20

// Revoked is what is no longer trusted, by hexadecimal SHA-256.
type Revoked struct {
	Keys         map[string]bool // by KeyHint
	Certificates map[string]bool // by Fingerprint; an authority takes along all that it vouches for
	Packages     map[string]bool // by the digits of a package's digest
}

// ParseRevoked reads a list: a line for each thing, "key sha256:…", "certificate sha256:…" or "package sha256:…"; # begins
// a comment.
func ParseRevoked(data []byte) (Revoked, error) {
	r := Revoked{Keys: map[string]bool{}, Certificates: map[string]bool{}, Packages: map[string]bool{}}
	if len(data) > MaxRevokedBytes {
		return r, fmt.Errorf("it is larger than %d bytes", MaxRevokedBytes)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		into := map[string]map[string]bool{"key": r.Keys, "certificate": r.Certificates, "package": r.Packages}[words[0]]
		if into == nil || len(words) != 2 {
			return Revoked{}, fmt.Errorf("line %d: it must be key, certificate or package, and a digest", n)
		}
		digits, err := packaging.CheckDigest(strings.ToLower(words[1]))
		if err != nil {
			return Revoked{}, fmt.Errorf("line %d: %w", n, err)
		}
		into[digits] = true
	}
	if err := lines.Err(); err != nil {
		return Revoked{}, fmt.Errorf("it is no list: %w", err)
	}
	return r, nil
}
