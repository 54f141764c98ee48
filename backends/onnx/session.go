package onnx

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/picket-ml/picket/tensor"
)

// apiVersion is the version of the C API that is asked for: every later library has it, and no earlier one the function
// that takes weights from memory.
const apiVersion = 18

// checkVersion makes sure that a library of that version, "1.32.0", has the API.
func checkVersion(path, version string) error {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	m, err := strconv.Atoi(minor)
	if major != "1" || err != nil {
		return fmt.Errorf("%s is ONNX Runtime %q, which is unknown here; install one from 1.%d on", path, version, apiVersion)
	}
	if m < apiVersion {
		return fmt.Errorf("%s is ONNX Runtime %s, which is too old; install 1.%d or later", path, version, apiVersion)
	}
	return nil
}

// value is what the library says of one input or output.
type value struct {
	name    string
	tensor  bool // and no sequence, map or anything else
	element int
	rank    int
	dims    []int64 // -1 for one that varies; no more than tensor.MaxRank
}

// elements are the library's names for element types, by their numbers.
var elements = map[int]tensor.DType{
	1: tensor.FP32, 2: tensor.Uint8, 3: tensor.Int8, 4: tensor.Uint16, 5: tensor.Int16, 6: tensor.Int32, 7: tensor.Int64, 9: tensor.Bool,
	10: tensor.FP16, 11: tensor.FP64, 12: tensor.Uint32, 13: tensor.Uint64, 16: tensor.BF16,
}

const elementText = 8

// weights is a file of weights beside a model.
type weights struct {
	name   string // as the model has it
	buffer *tensor.Buffer
}

// sessionOptions is how a session is made.
type sessionOptions struct {
	// threads is how many threads it has for itself, the caller's among them; 0 for the pool of the process.
	threads int
	// variable tells that sizes of tensors vary from one run to the next.
	variable bool
	place    place
	// memory is the most that the session takes of a GPU, in bytes; 0 for no limit.
	memory int64
}

// runtimeError is what the library says went wrong, as a part of a sentence.
type runtimeError string

func (e runtimeError) Error() string { return string(e) }

// noise is what the library says of itself in a message: files and lines of its own source, functions with their arguments, and
// the numbers of its errors.
var noise = regexp.MustCompile(`\S*\.(?:cc|cpp|h|cu|cuh):\d+ (?:\S+?\(.*?\)(?: const)?|\w+)\s*:?\s*|\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : | ?; (?:GPU|hostname|file|line|expr)=[^;]*`)

// failure is how it tells of an error of CUDA's libraries, behind the template of the function that has found it.
var failure = regexp.MustCompile(`\S*\.(?:cc|h):\d+ .*?\b((?:CUDA|CUBLAS|CUDNN|CURAND|CUFFT) failure \d+: )`)

// maxReason keeps a sentence readable: the library adds whole lists of shapes to some.
const maxReason = 300

// shorten makes a part of a sentence of a message of the library.
func shorten(text string) string {
	text = strings.TrimSpace(text)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if cut := noise.ReplaceAllString(failure.ReplaceAllString(line, "$1"), ""); cut != "" {
			text = cut
			break
		}
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	if len(text) > maxReason {
		return strings.TrimRight(strings.ToValidUTF8(text[:maxReason], ""), " .:") + " …"
	}
	return strings.TrimRight(text, " .:;")
}
