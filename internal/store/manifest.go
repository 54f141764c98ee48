package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/picket-ml/picket/engine"
)

// ManifestName is the file in which SageMaker Edge Manager's packaging job left
// the name and the version of a model.
const ManifestName = "sagemaker_edge_manifest"

const (
	maxManifestBytes = 1 << 20 // real ones have a few hundred
	maxNameBytes     = 255
)

// Manifest is what a package says of itself. It is not signed, so it is good
// for logs and listings only.
type Manifest struct {
	Name    string // metadata.model_name, empty if it is not given
	Version string // metadata.model_version, such as "1.0"; empty if it is not given
}

// ReadManifest reads the manifest of a package; a package without one has the
// zero Manifest. An error wraps engine.ErrArtifact, and then the Manifest is
// zero.
func ReadManifest(a *engine.Artifact) (Manifest, error) {
	if !a.Has(ManifestName) {
		return Manifest{}, nil
	}
	data, err := a.ReadFile(ManifestName, maxManifestBytes)
	if err != nil {
		return Manifest{}, err
	}
	m, err := parseManifest(data)
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %s: %w", engine.ErrArtifact, ManifestName, err)
	}
	return m, nil
}

func parseManifest(data []byte) (Manifest, error) {
	var file struct {
		Metadata struct {
			Name    string `json:"model_name"`
			Version string `json:"model_version"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return Manifest{}, err
	}
	m := Manifest{Name: file.Metadata.Name, Version: file.Metadata.Version}
	for _, field := range []string{m.Name, m.Version} {
		if len(field) > maxNameBytes {
			return Manifest{}, fmt.Errorf("its model_name or model_version is longer than %d bytes", maxNameBytes)
		}
		if !utf8.ValidString(field) || strings.ContainsFunc(field, unicode.IsControl) {
			return Manifest{}, fmt.Errorf("its model_name or model_version has characters that cannot be printed")
		}
	}
	return m, nil
}
