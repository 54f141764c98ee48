package neo

import (
	"fmt"
	"strings"

	"github.com/picket-ml/picket/engine"
)

// Kind is the sort of model in a folder.
type Kind int

// The kinds, in the order in which neo-ai-dlr decides.
const (
	None       Kind = iota // no file of a kind that Neo writes
	TVM                    // a graph executor: *.params, with a .so and a .json
	RelayVM                // a Relay virtual machine program: *.ro, with a .so
	TensorFlow             // a SavedModel that Neo optimised: saved_model.pb
	Hexagon                // a library for Qualcomm's signal processor
	Trees                  // a library that Treelite made, and nothing else
)

// String is the kind as a message names it.
func (k Kind) String() string {
	switch k {
	case TVM:
		return "a TVM graph"
	case RelayVM:
		return "a Relay VM program"
	case TensorFlow:
		return "a TensorFlow SavedModel"
	case Hexagon:
		return "a Hexagon library"
	case Trees:
		return "a compiled tree model"
	}
	return "not a Neo model"
}

// The names that have a meaning of their own.
const (
	bundledLibrary = "libdlr.so"
	librarySuffix  = ".so"
	hexagonSuffix  = "_hexagon_model.so"
	metadataSuffix = ".meta"
)

// isAuxiliary tells the .json files that are not the model's graph.
func isAuxiliary(name string) bool {
	switch name {
	case "model-shapes.json", "hyperparams.json", "version.json":
		return true
	}
	return false
}

// Layout names the files of a Neo folder by the part they play; a part that
// nobody plays is empty.
type Layout struct {
	Kind     Kind
	Library  string // the model's code, compiled.so
	Graph    string // compiled_model.json
	Params   string // compiled.params
	Metadata string // compiled.meta
	Relay    string // code.ro
	// Runtime is the libdlr.so that came with the model.
	Runtime string
}

// ReadLayout gives every file its part. Two files for one part are an error
// that wraps engine.ErrArtifact, because the runtime refuses such a folder
// rather than choose; Kind is valid even then, so that a backend can tell
// whether the folder was meant for it.
func ReadLayout(files []engine.ArtifactFile) (Layout, error) {
	l := Layout{Kind: kindOf(files)}
	for _, f := range files {
		part, what := l.part(f.Name)
		if part == nil {
			continue
		}
		if *part != "" {
			return l, fmt.Errorf("%w: the folder holds more than one %s, %s and %s; leave only the model's own",
				engine.ErrArtifact, what, *part, f.Name)
		}
		*part = f.Name
	}
	return l, nil
}

// part is the field that the file belongs in and what its like is called, or nil.
func (l *Layout) part(name string) (field *string, what string) {
	switch {
	// The runtime looks at the end of the path, so mylibdlr.so is no model either.
	case strings.HasSuffix(name, bundledLibrary):
		if name == bundledLibrary {
			return &l.Runtime, bundledLibrary
		}
		return nil, ""
	case strings.HasSuffix(name, librarySuffix):
		return &l.Library, "model library (.so)"
	case strings.HasSuffix(name, ".json"):
		if isAuxiliary(name) {
			return nil, ""
		}
		return &l.Graph, "graph (.json)"
	case strings.HasSuffix(name, ".params"):
		return &l.Params, "parameter file (.params)"
	case strings.HasSuffix(name, metadataSuffix):
		return &l.Metadata, "metadata file (.meta)"
	case strings.HasSuffix(name, ".ro"):
		return &l.Relay, "Relay VM program (.ro)"
	}
	return nil, ""
}

// kindOf takes the strongest sign among the names. The runtime takes the first
// sign in the order the disk lists the files, which differs from host to host;
// no folder that Neo makes holds two signs, so the answers are the same.
func kindOf(files []engine.ArtifactFile) Kind {
	kind := None
	for _, f := range files {
		found := None
		switch {
		case strings.HasSuffix(f.Name, ".params"):
			return TVM
		case strings.HasSuffix(f.Name, ".ro"):
			found = RelayVM
		case strings.HasSuffix(f.Name, "saved_model.pb"), strings.HasSuffix(f.Name, "saved_model.pbtxt"):
			found = TensorFlow
		case strings.HasSuffix(f.Name, hexagonSuffix):
			found = Hexagon
		case strings.HasSuffix(f.Name, librarySuffix) && !strings.HasSuffix(f.Name, bundledLibrary):
			found = Trees
		}
		if found != None && (kind == None || found < kind) {
			kind = found
		}
	}
	return kind
}
