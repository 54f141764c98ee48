package lanewire

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// failureSize is the bytes of an error's payload before its sentence.
const failureSize = 8

// maxSentence is the most bytes of an error's sentence that are believed.
const maxSentence = 4 << 10

// Failure is the payload of an error.
type Failure struct {
	// Code is one of gRPC's status codes.
	Code uint32
	// Retry is after what time asking again has a chance, in whole
	// microseconds; 0 for no hint.
	Retry    time.Duration
	Sentence string
}

// Append appends the payload to b.
func (f Failure) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, f.Code)
	b = binary.LittleEndian.AppendUint32(b, uint32(min(max(f.Retry.Microseconds(), 0), 1<<32-1)))
	return append(b, f.Sentence...)
}

// ParseFailure reads the payload.
func ParseFailure(b []byte) (Failure, error) {
	if len(b) < failureSize {
		return Failure{}, fmt.Errorf("an error has %d bytes, at least %d are needed", len(b), failureSize)
	}
	sentence := b[failureSize:]
	sentence = sentence[:min(len(sentence), maxSentence)]
	return Failure{
		Code:     binary.LittleEndian.Uint32(b),
		Retry:    time.Duration(binary.LittleEndian.Uint32(b[4:])) * time.Microsecond,
		Sentence: strings.ToValidUTF8(string(sentence), ""),
	}, nil
}
