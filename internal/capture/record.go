package capture

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/picket-ml/picket/tensor"
)

// Record is one captured inference, or what became of one. Records that are read
// from a spool share memory with the batch that they were in, which nobody changes.
type Record struct {
	// ID is the spool's own: no two records have the same, on whichever host.
	ID ID
	// Inference is what the caller knows the inference by: the request id of the Open
	// Inference Protocol, the capture id of the agent's interface, or the connection
	// and the number of a request on the lane. Empty for one that the caller gave no
	// name; then ID stands for it (see Name).
	Inference string
	// Time is when the inference ended, by the host's clock, or what an explicit
	// capture says.
	Time time.Time
	// Model is the name it was loaded as, Version the artifact's own.
	Model, Version string
	Kind           Kind
	// Why says why a sample was chosen; more than one reason may have held.
	Why Why
	// Rows is how many rows the inference had; 0 where that is not known.
	Rows int
	// Inputs and Outputs are the tensors. A failed inference has no outputs.
	Inputs, Outputs []Tensor
	// AuxInputs and AuxOutputs are what an explicit capture had beside them, and
	// the outcome of a Truth is the only one of its AuxOutputs.
	AuxInputs, AuxOutputs []Payload
	// Code is the gRPC code of a failed inference, 0 for one that succeeded, and Error
	// its sentence.
	Code  uint32
	Error string
}

// Name is what the inference is called wherever the record goes: Inference, or ID as
// text.
func (r *Record) Name() string {
	if r.Inference != "" {
		return r.Inference
	}
	return r.ID.String()
}

// ID is the spool's random half and the sequence number of the record in it.
type ID struct {
	Spool    uint64
	Sequence uint64
}

// String is 32 hexadecimal digits.
func (id ID) String() string { return fmt.Sprintf("%016x%016x", id.Spool, id.Sequence) }

// Kind is where a record came from.
type Kind uint8

// The kinds. Zero is none, so that a forgotten one is noticed.
const (
	Sample   Kind = 1 + iota // the Tap's
	Explicit                 // a client's CaptureData
	Truth                    // the outcome of an inference, told later
	kinds
)

// String is the word for people.
func (k Kind) String() string {
	if k == 0 || k >= kinds {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return [kinds]string{"", "sample", "explicit", "truth"}[k]
}

// Why is a set of reasons.
type Why uint8

// The reasons for which a request is sampled.
const (
	ByRate   Why = 1 << iota // by chance
	ByCount                  // every so many
	ByOutput                 // the answer lay in the band
	ByError                  // it failed
	allWhy   = ByRate | ByCount | ByOutput | ByError
)

// String is the reasons, separated by "+".
func (w Why) String() string {
	var words []string
	for i, word := range [...]string{"rate", "count", "output", "error"} {
		if w&(1<<i) != 0 {
			words = append(words, word)
		}
	}
	return strings.Join(words, "+")
}

// Tensor is one tensor as it was; nothing says that its bytes fit its type and shape
// where a client captured it explicitly.
type Tensor struct {
	Name  string
	DType tensor.DType
	Shape []int64
	// Data is the elements, row major and little endian. It is nil where the tensor was
	// too large for the record and lies beside it.
	Data   []byte
	Beside *Beside
}

// Payload is bytes of which nothing is known but how a client says they are encoded.
type Payload struct {
	Name     string
	Encoding Encoding
	Data     []byte
	Beside   *Beside
}

// Encoding is that of the agent's interface, with the same numbers.
type Encoding uint8

// The encodings.
const (
	CSV Encoding = iota
	JSON
	None
	Base64
	encodings
)

// String is the name of the interface.
func (e Encoding) String() string {
	if e >= encodings {
		return fmt.Sprintf("encoding %d", uint8(e))
	}
	return [encodings]string{"CSV", "JSON", "NONE", "BASE64"}[e]
}

// Beside says where bytes lie that were too large for their record: in a file of the
// spool, which goes with the record's segment.
type Beside struct {
	Name   string
	Size   int64
	SHA256 [32]byte
}

// String is for people.
func (b *Beside) String() string {
	return fmt.Sprintf("%s (%d bytes, sha256:%s)", b.Name, b.Size, hex.EncodeToString(b.SHA256[:]))
}

// Size is how many bytes the tensor has, wherever they are.
func (t *Tensor) Size() int64 {
	if t.Beside != nil {
		return t.Beside.Size
	}
	return int64(len(t.Data))
}

// Limits that every record keeps.
const (
	MaxInference = 256  // bytes of Record.Inference
	maxText      = 4096 // bytes of any other text
	maxTensors   = 255  // of one side
	maxParts     = 1<<16 - 1
	// MaxEntry is the most bytes of an encoded entry: what is larger lies beside.
	MaxEntry = 64 << 20
)
