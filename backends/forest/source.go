package forest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/ensemble"
)

// sourceStem is how `picket compile` calls the model file that it puts beside compiled.so, but for the extension.
const sourceStem = "source_model"

// onnxFormat is what package ensemble calls ONNX.
const onnxFormat = "onnx"

// source is the model file of an artifact.
type source struct {
	name   string // empty where the folder has none
	format string // as ensemble.Recognise says
	beside bool   // beside a compiled library
	layout neo.Layout
}

// headBytes is how much of a file's start tells whether it is a model.
const headBytes = 256

// findSource looks for the model file by name and first bytes: beside a compiled tree model, the file that `picket
// compile` puts there; in a folder without any compiled model, whatever starts like a model. Two of them are an error that
// wraps engine.ErrArtifact.
func findSource(a *engine.Artifact) (source, error) {
	layout, err := neo.ReadLayout(a.Files)
	s := source{layout: layout, beside: layout.Kind == neo.Trees}
	if layout.Kind != neo.Trees && layout.Kind != neo.None {
		return source{}, nil
	}
	if s.beside && err != nil {
		return source{}, nil //nolint:nilerr // ambiguous for its own runtime: the backend of compiled models says so
	}
	metadata := 0
	for _, f := range a.Files {
		if path.Ext(f.Name) == ".meta" {
			metadata++
		}
		stem := strings.TrimSuffix(f.Name, path.Ext(f.Name))
		if s.beside && stem != sourceStem {
			continue
		}
		format := formatOf(a, f.Name)
		if format == "" {
			continue
		}
		if s.name != "" {
			return source{}, fmt.Errorf("%w: the folder holds more than one model file, %s and %s; leave only one", engine.ErrArtifact, s.name, f.Name)
		}
		s.name, s.format = f.Name, format
	}
	if s.name != "" && metadata > 1 { // of the layout's other ambiguities none matters here
		return source{}, err
	}
	return s, nil
}

// formatOf is the format of a file that starts like a model, else "". XGBoost's documents have the learner first. Whether
// there are trees in an ONNX file is found out only when it is read.
func formatOf(a *engine.Artifact, name string) string {
	f, err := a.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, headBytes)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return ""
	}
	format, err := ensemble.Recognise(head[:n])
	if err != nil || (format == "json" || format == "ubjson") && !bytes.Contains(head[:n], []byte("learner")) {
		return ""
	}
	return format
}

// read reads the model. Beside a library, the file has to be the one that the library was made of, if its compiled.meta
// says which; and a model that cannot be read is left to the backend that runs the library. So is a sound file that uses
// what package ensemble does not support, ONNX graphs of anything else among them, to whichever backend can.
func (s source) read(a *engine.Artifact, metadata neo.Metadata) (*ensemble.Ensemble, error) {
	f, err := a.Open(s.name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	digest := sha256.New()
	e, err := ensemble.Read(io.TeeReader(f, digest), ensemble.Limits{})
	kind := engine.ErrArtifact
	if s.beside {
		want := metadata.SourceSHA256
		if got := hex.EncodeToString(digest.Sum(nil)); want != "" && got != want {
			return nil, fmt.Errorf("%w: %s is not the model that %s was compiled from: its SHA-256 is %s, and %s says %s",
				engine.ErrArtifact, s.name, s.layout.Library, got, s.layout.Metadata, want)
		}
		kind = engine.ErrUnsupported
	}
	if errors.Is(err, ensemble.ErrUnsupported) || s.format == onnxFormat && errors.Is(err, ensemble.ErrFormat) {
		kind = engine.ErrUnsupported
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", kind, s.name, err)
	}
	return e, nil
}

// matchBeside is the match of a model file beside a library, by what compiled.meta says of the file's digest.
func (s source) matchBeside(a *engine.Artifact) int {
	metadata, err := neo.ReadMetadata(a, s.layout)
	if err != nil {
		return matchOther
	}
	if metadata.SourceSHA256 == "" {
		return matchUnknown
	}
	if digest, err := a.SHA256(context.Background(), s.name); err != nil || hex.EncodeToString(digest[:]) != metadata.SourceSHA256 {
		return matchOther
	}
	return matchSource
}
