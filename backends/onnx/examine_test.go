package onnx_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/onnx"
	"github.com/picket-ml/picket/internal/testkit"
)

// models are files that the reader takes, by name: networks, trees, and what tests build.
func models(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{
		"linear":  linear(2, weight("w", []float32{1, 2, 3, 4}, 2, 2)).bytes(),
		"outside": linear(2, outside("w", "data", 0, 16, 2, 2)).bytes(),
	}
	for _, pattern := range []string{filepath.Join("testdata", "nets", "*", "*.onnx"), filepath.Join(testkit.Path(t, "models/onnx"), "*.onnx")} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(paths), err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all[path] = data
		}
	}
	return all
}

// TestExamine: sound files pass, and no part of one does.
func TestExamine(t *testing.T) {
	for name, data := range models(t) {
		files, err := onnx.Examine(data)
		want := []string(nil)
		if name == "outside" {
			want = []string{"data"}
		}
		if err != nil || !slices.Equal(files, want) {
			t.Errorf("%s: %q, %v", name, files, err)
		}
		if _, err := onnx.Examine(data[:len(data)/2]); err == nil {
			t.Errorf("half of %s is taken for a model", name)
		}
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "zeros": make([]byte, 100), "a group": {0x08, 8, 0x0b, 0x0c},
		"a deep graph": deep(40).bytes(),
		"a long name":  file{nodes: []message{node(strings.Repeat("x", 5000), nil, nil)}}.bytes(),
	} {
		if files, err := onnx.Examine(data); err == nil {
			t.Errorf("%s: %q", name, files)
		}
	}
	if _, err := onnx.Examine(deep(20).bytes()); err != nil {
		t.Errorf("graphs twenty deep: %v", err)
	}
}

// deep is a model of graphs within graphs.
func deep(n int) file {
	inner := node("Identity", []string{"x"}, []string{"y"})
	for range n {
		inner = node("If", nil, nil, graphAttribute("then_branch", message(nil).Part(1, inner)))
	}
	return file{nodes: []message{inner}}
}

func TestVersions(t *testing.T) {
	for version, say := range map[string]string{
		"1.18.0": "", "1.32.0": "", "1.17.3": "ONNX Runtime 1.17.3, which is too old; install 1.18 or later", "1.9": "too old",
		"2.0.0": "which is unknown here", "": "which is unknown here", "1": "which is unknown here", "one.two": "unknown",
	} {
		err := onnx.CheckVersion("/lib/x.so", version)
		if (err == nil) != (say == "") || err != nil && !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v, want %q", version, err, say)
		}
	}
}

// TestShorten: messages of the library, as it wrote them, become parts of a sentence.
func TestShorten(t *testing.T) {
	for text, want := range map[string]string{
		"/onnxruntime_src/onnxruntime/core/graph/model.cc:181 onnxruntime::Model::Model(onnx::ModelProto&&, const PathString&, const IOnnxRuntimeOpSchemaRegistryList*, const onnxruntime::logging::Logger&, const onnxruntime::ModelOptions&) Unsupported model IR version: 40, max supported IR version: 13\n":                                                                                                                                                                                                                           "Unsupported model IR version: 40, max supported IR version: 13",
		"Exception during initialization: /onnxruntime_src/onnxruntime/core/optimizer/initializer.cc:51 onnxruntime::Initializer::Initializer(const onnx::TensorProto&, const std::filesystem::__cxx11::path&) [ONNXRuntimeError] : 1 : FAIL : tensorprotoutils.cc:1730 ValidateEmbeddedTensorProtoDataSizeAndShape Initializer tensor 'w' is short":                                                                                                                                                                                       "Exception during initialization: Initializer tensor 'w' is short",
		"Non-zero status code. Name:'' Status Message: CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=h ; file=/src/x.cc ; line=119 ; expr=f(); ":                                                                                                                                                                                                                                                                                                                                                                         "Non-zero status code. Name:'' Status Message: CUDA failure 719: unspecified launch failure",
		"Exception during initialization: /onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:118 std::conditional_t<THRW, void, onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, const char*, SUCCTYPE, const char*, const char*, int) [with ERRTYPE = cublasStatus_t; bool THRW = true; SUCCTYPE = cublasStatus_t; std::conditional_t<THRW, void, common::Status> = void] CUBLAS failure 3: the resource allocation failed ; GPU=0 ; hostname=h ; file=/src/x.cc ; line=179 ; expr=cublasCreate(&h); ": "Exception during initialization: CUBLAS failure 3: the resource allocation failed",
		"Load model from  failed:Protobuf parsing failed.": "Load model from  failed:Protobuf parsing failed",
		"\n first \n second":         "first",
		"":                           "",
		strings.Repeat("x", 1000):    strings.Repeat("x", 300) + " …",
		"a tab\tand a \x01 and \xff": "a tab and a   and",
	} {
		if got := onnx.Shorten(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

// TestNoRoom: what the library and those of CUDA say when there is no memory is told from the rest.
func TestNoRoom(t *testing.T) {
	for text, is := range map[string]bool{
		"CUDA failure 2: out of memory": true, "CUBLAS failure 3: the resource allocation failed": true, "std::bad_alloc": true,
		"CUDNN failure 4003: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED": true, "Failed to allocate memory for requested buffer of size 8": true,
		"CUDA failure 719: unspecified launch failure": false, "CUBLAS failure 13: the GPU program failed to execute": false, "the name allocation": false,
	} {
		if got := onnx.OutOfMemory(errors.New(text)); got != is {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestPlaces(t *testing.T) {
	for text, want := range map[string]string{"cpu": "cpu", "cuda": "cuda", "cuda:3": "cuda:3", "tensorrt:1": "tensorrt:1", "openvino": "openvino"} {
		if got, auto, err := onnx.ParsePlace(text); got != want || auto || err != nil {
			t.Errorf("%s: %s, %v, %v", text, got, auto, err)
		}
	}
	for _, text := range []string{"", "auto"} {
		if _, auto, err := onnx.ParsePlace(text); !auto || err != nil {
			t.Errorf("%q: %v, %v", text, auto, err)
		}
	}
}

// FuzzExamine: what is not a message is refused, what passes names each file once, and the same bytes give the same.
func FuzzExamine(f *testing.F) {
	for _, data := range models(f) {
		if len(data) < 10_000 {
			f.Add(data)
			f.Add(data[:len(data)/2])
		}
	}
	f.Add(deep(40).bytes())
	f.Add(linear(2, outside("w", "../../etc/shadow", 0, 16, 2, 2)).bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := onnx.Examine(data)
		if err != nil && files != nil {
			t.Fatal("files and an error")
		}
		for i, name := range files {
			if name == "" || i > 0 && files[i-1] >= name {
				t.Fatalf("the files are %q", files)
			}
			// The name is in the file, as it is.
			if !strings.Contains(string(data), name) {
				t.Fatalf("%q is not in the file", name)
			}
		}
		again, err2 := onnx.Examine(data)
		if (err == nil) != (err2 == nil) || !slices.Equal(files, again) {
			t.Fatal("the second time it is something else")
		}
		// A model with something behind it that is no field is no model.
		if err == nil {
			if _, err := onnx.Examine(append(slices.Clone(data), 0x0b)); err == nil {
				t.Fatal("a model with garbage behind it passes")
			}
		}
	})
}
