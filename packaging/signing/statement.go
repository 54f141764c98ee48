package signing

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/picket-ml/picket/packaging"
)

// statement is in-toto's, with the predicate of model signing.
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     predicate `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type predicate struct {
	Serialization serialization `json:"serialization"`
	Resources     []resource    `json:"resources"`
}

type serialization struct {
	Method        string   `json:"method"`
	HashType      string   `json:"hash_type"`
	AllowSymlinks bool     `json:"allow_symlinks"`
	IgnorePaths   []string `json:"ignore_paths,omitempty"`
}

type resource struct {
	Name      string `json:"name"`
	Algorithm string `json:"algorithm"`
	Digest    string `json:"digest"`
}

// FilesOf are all files that a signature of the package is over, by path, with their SHA-256 in hexadecimal: the manifest
// and what it lists.
func FilesOf(manifest []byte, m *packaging.Manifest) map[string]string {
	files := make(map[string]string, len(m.Files)+1)
	sum := sha256.Sum256(manifest)
	files[packaging.ManifestName] = hex.EncodeToString(sum[:])
	for _, f := range m.Files {
		files[f.Path] = f.SHA256
	}
	return files
}

// newStatement lists the files in the order of model_signing, which compares paths part by part.
func newStatement(name string, files map[string]string) ([]byte, error) {
	paths := slices.SortedFunc(maps.Keys(files), func(x, y string) int {
		return slices.Compare(strings.Split(x, "/"), strings.Split(y, "/"))
	})
	p := predicate{Serialization: serialization{Method: "files", HashType: "sha256", IgnorePaths: []string{packaging.SignatureName}}}
	for _, path := range paths {
		p.Resources = append(p.Resources, resource{path, "sha256", files[path]})
	}
	root, err := rootDigest(p.Resources)
	if err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(statement{
		Type: statementType, Subject: []subject{{name, map[string]string{"sha256": root}}}, PredicateType: predicateType, Predicate: p,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing what is to be signed: %w", err)
	}
	return data, nil
}

// rootDigest is the subject's: of the digests one after the other, without the names.
func rootDigest(resources []resource) (string, error) {
	digest := sha256.New()
	for _, r := range resources {
		raw, err := hex.DecodeString(r.Digest)
		if err != nil || len(raw) != sha256.Size || r.Digest != strings.ToLower(r.Digest) {
			return "", bad("the digest of %.100q is no SHA-256", r.Name)
		}
		digest.Write(raw)
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// parseStatement gives the files that a payload lists.
func parseStatement(payload []byte) (map[string]string, error) {
	var s statement
	// The specification has verifiers ignore what they do not know.
	if err := packaging.CheckJSON(payload, maxDepth); err != nil {
		return nil, bad("what is signed: %w", err)
	}
	if err := json.NewDecoder(bytes.NewReader(payload)).Decode(&s); err != nil {
		return nil, bad("what is signed: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	how := s.Predicate.Serialization
	switch {
	case s.Type != statementType:
		return nil, bad("what is signed is %.80q, not %s", s.Type, statementType)
	case s.PredicateType != predicateType:
		return nil, bad("the statement is a %.80q, not %s; sign again with model_signing 1.0 or later", s.PredicateType, predicateType)
	case how.Method != "files":
		return nil, bad("it was made over %.40q; sign over whole files", how.Method)
	case how.HashType != "sha256":
		return nil, bad("it was made with %.40q; sign with sha256", how.HashType)
	case len(s.Subject) != 1:
		return nil, bad("the statement has %d subjects, it must be 1", len(s.Subject))
	}
	files := make(map[string]string, len(s.Predicate.Resources))
	for _, r := range s.Predicate.Resources {
		if _, twice := files[r.Name]; twice || r.Algorithm != "sha256" {
			return nil, bad("the file %.100q is listed twice, or not with sha256", r.Name)
		}
		files[r.Name] = r.Digest
	}
	root, err := rootDigest(s.Predicate.Resources)
	if err != nil {
		return nil, err
	}
	if s.Subject[0].Digest["sha256"] != root {
		return nil, bad("the digest of its subject is not that of its files")
	}
	return files, nil
}
