package compile

import (
	"encoding/json"

	"github.com/picket-ml/picket/internal/ensemble"
)

// meta is compiled.meta: Neo's keys, and under Picket what only we read. DLR ignores keys it does not know.
type meta struct {
	Requirements struct {
		TargetDevice     string
		TargetDeviceType string // "cpu"
	}
	Compilation struct {
		// CreatedTime is 0, so that the same model gives the same file.
		CreatedTime int
	}
	Model struct {
		Inputs, Outputs []port
	}
	Picket detail
}

// port is one input or output. A first dimension of -1 stands for the rows of a request.
type port struct {
	Name  string `json:"name"`
	Dtype string `json:"dtype"`
	Shape []int  `json:"shape"`
}

// detail is what we know about an artifact beyond what Neo writes.
type detail struct {
	Engine         string // Engine.Name
	CPU            string // the target's name: the least processor that runs the artifact
	Compiler       string
	Library        string
	LibraryVersion string `json:",omitempty"`
	Objective      string `json:",omitempty"`
	Transform      string // what get_pred_transform answers
	Trees          int
	Nodes          int
	Margins        int      // per row
	SourceModel    string   // name of the model file beside this one
	SourceSHA256   string   // its digest
	LibrarySHA256  string   // the digest of compiled.so, which a host checks before it loads that
	FeatureNames   []string `json:",omitempty"`
}

func metadata(e *ensemble.Ensemble, engine string, t target, compiler, sourceName, sourceDigest, libraryDigest string) ([]byte, error) {
	var m meta
	m.Requirements.TargetDevice, m.Requirements.TargetDeviceType = t.name, "cpu"
	m.Model.Inputs = []port{{"data", "float32", []int{-1, e.NumFeature}}}
	m.Model.Outputs = []port{{"output", "float32", []int{-1, e.Outputs()}}}
	m.Picket = detail{
		Engine: engine, CPU: t.name, Compiler: compiler,
		Library: e.Library.String(), LibraryVersion: e.Version, Objective: e.Objective.Name, Transform: transformName(e),
		Trees: len(e.Trees), Nodes: e.Nodes(), Margins: e.Groups,
		SourceModel: sourceName, SourceSHA256: sourceDigest, LibrarySHA256: libraryDigest, FeatureNames: e.FeatureNames,
	}
	data, err := json.MarshalIndent(m, "", "  ")
	return append(data, '\n'), err
}
