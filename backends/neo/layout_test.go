package neo

import (
	"errors"
	"strings"
	"testing"

	"github.com/picket-ml/picket/engine"
)

func files(names ...string) []engine.ArtifactFile {
	var out []engine.ArtifactFile
	for _, n := range names {
		out = append(out, engine.ArtifactFile{Name: n, Size: 1})
	}
	return out
}

func TestReadLayout(t *testing.T) {
	for name, tc := range map[string]struct {
		files []engine.ArtifactFile
		want  Layout
	}{
		"nothing":               {nil, Layout{}},
		"only a runtime":        {files("libdlr.so", "dlr.h"), Layout{Runtime: "libdlr.so"}},
		"trees of 2019":         {files("compiled_model.so"), Layout{Kind: Trees, Library: "compiled_model.so"}},
		"trees with a runtime":  {files("compiled.meta", "compiled.so", "dlr.h", "libdlr.so"), Layout{Kind: Trees, Library: "compiled.so", Metadata: "compiled.meta", Runtime: "libdlr.so"}},
		"trees in a package":    {files("compiled.so", "sagemaker_edge_manifest", "source.model"), Layout{Kind: Trees, Library: "compiled.so"}},
		"a graph":               {files("compiled.meta", "compiled.params", "compiled.so", "compiled_model.json", "libdlr.so", "manifest", "model-shapes.json"), Layout{Kind: TVM, Library: "compiled.so", Graph: "compiled_model.json", Params: "compiled.params", Metadata: "compiled.meta", Runtime: "libdlr.so"}},
		"a Relay VM program":    {files("code.ro", "compiled.meta", "compiled.so"), Layout{Kind: RelayVM, Library: "compiled.so", Metadata: "compiled.meta", Relay: "code.ro"}},
		"TensorFlow":            {files("saved_model.pb"), Layout{Kind: TensorFlow}},
		"Hexagon":               {files("dlr_hexagon_model.so"), Layout{Kind: Hexagon, Library: "dlr_hexagon_model.so"}},
		"a runtime by any name": {files("mylibdlr.so"), Layout{}},
		"auxiliary json":        {files("compiled.so", "hyperparams.json", "model-shapes.json", "version.json"), Layout{Kind: Trees, Library: "compiled.so"}},
		"parameters rule a .ro": {files("a.ro", "b.params"), Layout{Kind: TVM, Params: "b.params", Relay: "a.ro"}},
		"a .ro rules a .so":     {files("a.so", "b.ro"), Layout{Kind: RelayVM, Library: "a.so", Relay: "b.ro"}},
		"other names":           {files("compiled.so.bak", "params", "README.md"), Layout{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadLayout(tc.files)
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tc.want)
			}
		})
	}
}

func TestReadLayoutRefusesTwoOfAKind(t *testing.T) {
	for _, tc := range []struct {
		first, second string
		kind          Kind
	}{
		{"a.so", "b.so", Trees},
		{"a.json", "b.json", None},
		{"a.params", "b.params", TVM},
		{"a.meta", "b.meta", None},
		{"a.ro", "b.ro", RelayVM},
	} {
		got, err := ReadLayout(files(tc.first, tc.second))
		if !errors.Is(err, engine.ErrArtifact) || !strings.Contains(err.Error(), tc.first) || !strings.Contains(err.Error(), tc.second) {
			t.Errorf("%s and %s: %v", tc.first, tc.second, err)
		}
		if got.Kind != tc.kind {
			t.Errorf("%s and %s are %v, want %v", tc.first, tc.second, got.Kind, tc.kind)
		}
	}
}
