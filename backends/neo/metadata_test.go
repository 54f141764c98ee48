package neo

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

func TestParseMetadata(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want Metadata
	}{
		"nothing": {"", Metadata{}},
		"blanks":  {" \n", Metadata{}},
		"null":    {"null", Metadata{}},
		"a graph": {`{"Requirements": {"TargetDevice": "ML_C5", "TargetDeviceType": "cpu"}, "Compilation": {"CreatedTime": 0},
			"Model": {"Inputs": [{"name": "input", "dtype": "float32", "shape": [1, 3, 64, 64]}], "Outputs": [{"name": "out", "dtype": "int64", "shape": []}]}}`,
			Metadata{
				Inputs:     []engine.TensorSpec{{Name: "input", DType: tensor.FP32, Dims: []int64{1, 3, 64, 64}}},
				Outputs:    []engine.TensorSpec{{Name: "out", DType: tensor.Int64, Dims: []int64{}}},
				DeviceType: "cpu", TargetDevice: "ML_C5",
			}},
		"sparse trees":  {`{"Model": {"SparseInput": "1"}}`, Metadata{SparseInput: true}},
		"dense trees":   {`{"Model": {"SparseInput": "0"}}`, Metadata{}},
		"our own level": {`{"Picket": {"CPU": "x86-64-v3"}}`, Metadata{CPULevel: hw.X86V3}},
		"a source":      {`{"Picket": {"SourceSHA256": "` + strings.Repeat("0aF9", 16) + `"}}`, Metadata{SourceSHA256: strings.Repeat("0af9", 16)}},
		"a digest":      {`{"Picket": {"LibrarySHA256": "` + strings.Repeat("0aF9", 16) + `"}}`, Metadata{LibrarySHA256: strings.Repeat("0af9", 16)}},
		"any processor": {`{"Picket": {"CPU": "x86-64"}}`, Metadata{CPULevel: hw.X86V1}},
		"transforms": {`{"DataTransform": {"Input": {"ColumnTransform": []}, "Output": {"1": {"CategoricalString": {}}, "0": {"CategoricalString": {}}, "2": {"Other": 1}}}}`,
			Metadata{Transforms: []string{"DataTransform.Input.ColumnTransform", "DataTransform.Output.0.CategoricalString", "DataTransform.Output.1.CategoricalString"}}},
		"brackets in text": {`{"note": "` + strings.Repeat(`[\"`, 1000) + `"}`, Metadata{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseMetadata([]byte(tc.text))
			if err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %+v, %v; want %+v", got, err, tc.want)
			}
		})
	}
}

func TestParseMetadataRefuses(t *testing.T) {
	input := func(entry string) string { return `{"Model": {"Inputs": [` + entry + `]}}` }
	for name, tc := range map[string]struct{ text, say string }{
		"too long":             {strings.Repeat(" ", maxMetadataBytes+1), "the limit is"},
		"too deep":             {strings.Repeat(`{"a":`, maxDepth+1), "levels deep"},
		"no object":            {`[]`, "it is not a JSON object"},
		"null requirements":    {`{"Requirements": null}`, "its Requirements is not a JSON object"},
		"null device":          {`{"Requirements": {"TargetDeviceType": null}}`, "its Requirements.TargetDeviceType is not a string"},
		"a list of models":     {`{"Model": []}`, "its Model is not a JSON object"},
		"cut off":              {`{"Model": {`, "not the JSON"},
		"wrong type":           {`{"Model": {"SparseInput": 1}}`, "SparseInput"},
		"no name":              {input(`{"dtype": "float32"}`), "no name"},
		"a long name":          {input(`{"name": "` + strings.Repeat("x", 300) + `", "dtype": "float32"}`), "300 bytes"},
		"an evil name":         {input(`{"name": "a\nb", "dtype": "float32"}`), "control character"},
		"an unknown type":      {input(`{"name": "a", "dtype": "` + strings.Repeat("x", 300) + `"}`), "unknown element type"},
		"many dimensions":      {input(`{"name": "a", "dtype": "float32", "shape": [1,1,1,1,1,1,1,1,1]}`), "9 dimensions"},
		"half dimensions":      {input(`{"name": "a", "dtype": "float32", "shape": [1.5]}`), "not the JSON"},
		"huge dimensions":      {input(`{"name": "a", "dtype": "float32", "shape": [99999999999999999999]}`), "not the JSON"},
		"a negative dimension": {input(`{"name": "a", "dtype": "float32", "shape": [-2, 30]}`), "a dimension of -2"},
		"no dimension":         {input(`{"name": "a", "dtype": "float32", "shape": [0, 30]}`), "a dimension of 0"},
		"two devices":          {`{"Requirements": {"TargetDeviceType": "gpu"}, "requirements": {"TargetDeviceType": "cpu"}}`, `the key "requirements" twice`},
		"twins":                {input(`{"name": "a", "dtype": "int8"}, {"name": "a", "dtype": "int8"}`), "named"},
		"many tensors":         {input(strings.TrimSuffix(strings.Repeat(`{},`, maxTensors+1), ",")), "257 tensors"},
		"a source":             {`{"Picket": {"SourceSHA256": "0a"}}`, "its Picket.SourceSHA256 is not a SHA-256 digest"},
		"a null source":        {`{"Picket": {"SourceSHA256": null}}`, "its Picket.SourceSHA256 is not a string"},
		"no digest":            {`{"Picket": {"LibrarySHA256": ""}}`, "its Picket.LibrarySHA256 is not a SHA-256 digest"},
		"a null digest":        {`{"Picket": {"LibrarySHA256": null}}`, "its Picket.LibrarySHA256 is not a string"},
		"a number":             {`{"Picket": {"LibrarySHA256": 5}}`, "its Picket.LibrarySHA256 is not a string"},
		"a short digest":       {`{"Picket": {"LibrarySHA256": "` + strings.Repeat("0", 63) + `"}}`, "which is 64 hexadecimal digits"},
		"a long digest":        {`{"Picket": {"LibrarySHA256": "` + strings.Repeat("0", 66) + `"}}`, "which is 64 hexadecimal digits"},
		"other digits":         {`{"Picket": {"LibrarySHA256": "` + strings.Repeat("g", 64) + `"}}`, "which is 64 hexadecimal digits"},
		"an evil device":       {`{"Requirements": {"TargetDeviceType": "\u0000"}}`, "control character"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseMetadata([]byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.say) || len(err.Error()) > 1000 {
				t.Errorf("the error does not say %q: %v", tc.say, err)
			}
			if !reflect.DeepEqual(got, Metadata{}) {
				t.Errorf("an error and a value: %+v", got)
			}
		})
	}
}

func TestCheckHost(t *testing.T) {
	host := &hw.Host{CPU: hw.CPU{Arch: "amd64", Level: hw.X86V3, Features: hw.FeaturesOf(hw.SSE42, hw.AVX, hw.AVX2, hw.FMA, hw.BMI2, hw.F16C)}}
	for _, tc := range []struct {
		m    Metadata
		kind error
		say  string
	}{
		{Metadata{}, nil, ""},
		{Metadata{DeviceType: "cpu", CPULevel: hw.X86V3}, nil, ""},
		{Metadata{CPULevel: hw.X86V1}, nil, ""},
		{Metadata{CPULevel: hw.X86V4}, engine.ErrHost, "was compiled for x86-64-v4; this host is x86-64-v3: it lacks avx512f, avx512bw, avx512dq, avx512vl"},
		{Metadata{CPULevel: hw.AArch64}, engine.ErrHost, "was compiled for aarch64; this host is x86-64-v3"},
		{Metadata{CPULevel: "x86-64-v9"}, engine.ErrArtifact, `"x86-64-v9", which does not exist`},
		{Metadata{DeviceType: "opencl"}, engine.ErrHost, `device type "opencl"`},
	} {
		err := tc.m.CheckHost(host)
		if !errors.Is(err, tc.kind) || (err != nil && !strings.Contains(err.Error(), tc.say)) {
			t.Errorf("%+v: %v", tc.m, err)
		}
	}
}

func TestTreeSignature(t *testing.T) {
	spec := func(name string, d tensor.DType, dims ...int64) []engine.TensorSpec {
		return []engine.TensorSpec{{Name: name, DType: d, Dims: dims}}
	}
	for name, tc := range map[string]struct {
		m    Metadata
		want string // both tensors, or what the error says
		ok   bool
	}{
		"no metadata":     {Metadata{}, "data FP32 [-1, 30] output FP32 [-1, 4]", true},
		"names":           {Metadata{Inputs: spec("rows", tensor.FP32, -1, 30), Outputs: spec("probabilities", tensor.FP32, 1, 4)}, "rows FP32 [-1, 30] probabilities FP32 [-1, 4]", true},
		"open dimensions": {Metadata{Inputs: spec("rows", tensor.FP32, -1, -1), Outputs: spec("o", tensor.FP32, -1)}, "rows FP32 [-1, 30] o FP32 [-1, 4]", true},
		"other features":  {Metadata{Inputs: spec("data", tensor.FP32, -1, 31)}, "has 31 values a row; the library has 30", false},
		"other outputs":   {Metadata{Outputs: spec("o", tensor.FP32, -1, 2)}, "has 2 values a row; the library has 4", false},
		"overflowing":     {Metadata{Inputs: spec("data", tensor.FP32, -1, 1<<62, 1<<62, 30)}, "the library has 30", false},
		"another type":    {Metadata{Inputs: spec("data", tensor.FP64, -1, 30)}, "is FP64; the library's is FP32", false},
		"two inputs":      {Metadata{Inputs: append(spec("a", tensor.FP32), spec("b", tensor.FP32)...)}, "lists 2 inputs", false},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := tc.m.TreeSignature(30, tensor.FP32, 4)
			if tc.ok {
				if err != nil {
					t.Fatal(err)
				}
				if got := s.Inputs[0].String() + " " + s.Outputs[0].String(); got != tc.want {
					t.Errorf("got %s, want %s", got, tc.want)
				}
				return
			}
			if !errors.Is(err, engine.ErrArtifact) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the error does not say %q: %v", tc.want, err)
			}
		})
	}
}

// FuzzParseMetadata holds the parser to its limits: what it lets through is
// within them, and it never gives an error and a value together.
func FuzzParseMetadata(f *testing.F) {
	f.Add([]byte(`{"Requirements": {"TargetDevice": "ML_C5", "TargetDeviceType": "cpu"}, "Model": {"Inputs": [{"name": "input", "dtype": "float32", "shape": [1, -1]}], "SparseInput": "1"}}`))
	f.Add([]byte(`{"DataTransform": {"Input": {"ColumnTransform": []}, "Output": {"0": {"CategoricalString": {}}}}}`))
	f.Add([]byte(`{"Model": {"Inputs": [{"name": "a", "dtype": "FP16", "shape": [9223372036854775807]}]}}`))
	f.Add([]byte(`{"Picket": {"CPU": "x86-64", "LibrarySHA256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}`))
	f.Add([]byte(`{"Picket": {"LibrarySHA256": "E3B0", "SourceSHA256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}`))
	f.Add([]byte(`{"Picket": {"LibrarySHA256": null, "librarysha256": ""}}`))
	f.Add([]byte(`[[[[`))
	f.Add([]byte(`"\`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMetadata(data)
		if err != nil {
			if !reflect.DeepEqual(m, Metadata{}) {
				t.Fatalf("an error and a value: %v, %+v", err, m)
			}
			return
		}
		for _, specs := range [][]engine.TensorSpec{m.Inputs, m.Outputs} {
			if len(specs) > maxTensors {
				t.Fatalf("%d tensors", len(specs))
			}
			for _, s := range specs {
				if s.Name == "" || len(s.Name) > maxNameBytes || strings.ContainsAny(s.Name, "\x00\n\x7f") || s.DType == tensor.Invalid || len(s.Dims) > tensor.MaxRank {
					t.Fatalf("a tensor beyond the limits: %+v", s)
				}
			}
		}
		for _, digest := range []string{m.LibrarySHA256, m.SourceSHA256} {
			if n := len(digest); n != 0 && n != 64 || strings.Trim(digest, "0123456789abcdef") != "" {
				t.Fatalf("a digest of another form: %q", digest)
			}
		}
		if s, err := m.TreeSignature(3, tensor.FP32, 1); err == nil {
			if d := s.Inputs[0].Dims; len(d) != 2 || d[0] != engine.Variable || d[1] != 3 {
				t.Fatalf("the metadata changed the shape: %v", d)
			}
		}
	})
}
