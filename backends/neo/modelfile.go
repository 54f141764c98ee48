package neo

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

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/tensor"
)

// sourceStem is how `picket compile` calls the model file that it puts beside compiled.so, but for the extension.
const sourceStem = "source_model"

// FormatONNX is what package ensemble calls ONNX.
const FormatONNX = "onnx"

// ModelFile is the file of a tree model in an artifact's folder, for the backends that run the model itself.
type ModelFile struct {
	Name   string // empty where the folder has none
	Format string // as ensemble.Recognise says
	Beside bool   // beside a compiled library
	layout Layout
}

// headBytes is how much of a file's start tells whether it is a model.
const headBytes = 256

// FindModelFile looks for the model file by name and first bytes: beside a compiled tree model, the file that `picket
// compile` puts there; in a folder without any compiled model, whatever starts like a model. Two of them are an error that
// wraps engine.ErrArtifact.
func FindModelFile(a *engine.Artifact) (ModelFile, error) {
	layout, err := ReadLayout(a.Files)
	s := ModelFile{layout: layout, Beside: layout.Kind == Trees}
	if layout.Kind != Trees && layout.Kind != None {
		return ModelFile{}, nil
	}
	if s.Beside && err != nil {
		return ModelFile{}, nil //nolint:nilerr // ambiguous for its own runtime: the backend of compiled models says so
	}
	metadata := 0
	for _, f := range a.Files {
		if path.Ext(f.Name) == ".meta" {
			metadata++
		}
		stem := strings.TrimSuffix(f.Name, path.Ext(f.Name))
		if s.Beside && stem != sourceStem {
			continue
		}
		format := formatOf(a, f.Name)
		if format == "" {
			continue
		}
		if s.Name != "" {
			return ModelFile{}, fmt.Errorf("%w: the folder holds more than one model file, %s and %s; leave only one", engine.ErrArtifact, s.Name, f.Name)
		}
		s.Name, s.Format = f.Name, format
	}
	if s.Name != "" && metadata > 1 { // of the layout's other ambiguities none matters here
		return ModelFile{}, err
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
func (s ModelFile) read(a *engine.Artifact, metadata Metadata) (*ensemble.Ensemble, error) {
	f, err := a.Open(s.Name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	digest := sha256.New()
	e, err := ensemble.Read(io.TeeReader(f, digest), ensemble.Limits{})
	kind := engine.ErrArtifact
	if s.Beside {
		want := metadata.SourceSHA256
		if got := hex.EncodeToString(digest.Sum(nil)); want != "" && got != want {
			return nil, fmt.Errorf("%w: %s is not the model that %s was compiled from: its SHA-256 is %s, and %s says %s",
				engine.ErrArtifact, s.Name, s.layout.Library, got, s.layout.Metadata, want)
		}
		kind = engine.ErrUnsupported
	}
	if errors.Is(err, ensemble.ErrUnsupported) || s.Format == FormatONNX && errors.Is(err, ensemble.ErrFormat) {
		kind = engine.ErrUnsupported
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", kind, s.Name, err)
	}
	return e, nil
}

// Origin is what is known of where the library beside a model file comes from.
type Origin uint8

// The origins: compiled.meta does not say, or it names the file's digest, or another one or nothing that makes sense.
const (
	OriginUnknown Origin = iota
	OriginSame
	OriginOther
)

// Origin tells, by what compiled.meta says of the file's digest, whether the library beside it was compiled from it.
func (s ModelFile) Origin(a *engine.Artifact) Origin {
	metadata, err := ReadMetadata(a, s.layout)
	if err != nil {
		return OriginOther
	}
	if metadata.SourceSHA256 == "" {
		return OriginUnknown
	}
	if digest, err := a.SHA256(context.Background(), s.Name); err != nil || hex.EncodeToString(digest[:]) != metadata.SourceSHA256 {
		return OriginOther
	}
	return OriginSame
}

// OpenModelFile reads the model of the folder's model file, and what it takes and gives as compiled.meta names it. The errors are those of
// engine.Backend's Open.
func OpenModelFile(ctx context.Context, a *engine.Artifact) (*ensemble.Ensemble, engine.Signature, error) {
	none := engine.Signature{}
	s, err := FindModelFile(a)
	if err != nil {
		return nil, none, err
	}
	if s.Name == "" {
		return nil, none, fmt.Errorf("%w: the folder holds no model file of XGBoost (.json, .ubj or the old binary format), LightGBM (.txt) or ONNX", engine.ErrArtifact)
	}
	metadata, err := ReadMetadata(a, s.layout)
	if err != nil {
		return nil, none, err
	}
	if err := metadata.CheckSupported(); err != nil {
		return nil, none, err
	}
	if metadata.SparseInput {
		return nil, none, fmt.Errorf("%w: its compiled.meta says that zeros are missing values (Model.SparseInput); the model file does not", engine.ErrUnsupported)
	}
	e, err := s.read(a, metadata)
	if err != nil {
		return nil, none, err
	}
	if e.NumFeature < 1 || e.Groups < 1 {
		return nil, none, fmt.Errorf("%w: the model takes %d features and gives %d values; both must be at least one", engine.ErrArtifact, e.NumFeature, e.Groups)
	}
	signature, err := metadata.TreeSignature(int64(e.NumFeature), tensor.FP32, int64(e.Outputs()))
	if err != nil {
		return nil, none, err
	}
	return e, signature, ctx.Err()
}
