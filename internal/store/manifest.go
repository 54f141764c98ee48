package store

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/packaging"
)

const maxNameBytes = 255

// Manifest is what a folder says of itself. It is not signed, so it is good
// for logs and listings only.
type Manifest struct {
	Name    string // metadata.model_name, empty if it is not given
	Version string // metadata.model_version, such as "1.0"; empty if it is not given
}

// ReadManifest reads the manifest of a folder; one without has the
// zero Manifest. An error wraps engine.ErrArtifact, and then the Manifest is
// zero.
func ReadManifest(a *engine.Artifact) (Manifest, error) {
	if !a.Has(packaging.ManifestName) {
		return Manifest{}, nil
	}
	data, err := a.ReadFile(packaging.ManifestName, packaging.MaxManifestBytes)
	if err != nil {
		return Manifest{}, err
	}
	m, err := parseManifest(data)
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %s: %w", engine.ErrArtifact, packaging.ManifestName, err)
	}
	return m, nil
}

func parseManifest(data []byte) (Manifest, error) {
	name, version, err := packaging.ParseOldManifest(data)
	if err != nil {
		return Manifest{}, err
	}
	for _, field := range []string{name, version} {
		if len(field) > maxNameBytes {
			return Manifest{}, fmt.Errorf("its model_name or model_version is longer than %d bytes", maxNameBytes)
		}
		if strings.ContainsFunc(field, unicode.IsControl) {
			return Manifest{}, errors.New("its model_name or model_version has characters that cannot be printed")
		}
	}
	return Manifest{name, version}, nil
}
