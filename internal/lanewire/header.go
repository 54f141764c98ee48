package lanewire

import (
	"encoding/binary"
	"fmt"
)

// Limits of the protocol.
const (
	// HeaderSize is the number of bytes before a frame's payload.
	HeaderSize = 32
	// MaxMessage is the most bytes of one message on a SOCK_SEQPACKET socket.
	MaxMessage = 64 << 10
	// MaxName is the most bytes of a model's name.
	MaxName = 255
	// Version is the version that this package speaks.
	Version = 1
)

const magic = 0x4b50 // "PK"

// Kind says what a frame is for.
type Kind uint8

// The kinds of frames.
const (
	KindHello   Kind = 1 // client: which versions it speaks
	KindWelcome Kind = 2 // server: the version and the limits
	KindOpen    Kind = 3 // client: the name of a model
	KindModel   Kind = 4 // server: a handle and the model's signature
	KindPredict Kind = 5 // client: rows
	KindResult  Kind = 6 // server: the answers to the rows
	KindError   Kind = 7 // server: why there is no answer
	KindCancel  Kind = 8 // client: an answer is not wanted any more
	KindGoodbye Kind = 9 // server: it is ending; send nothing more
	kinds       Kind = 10
)

// The bits of Header.Flags.
const (
	// FlagHigh and FlagLow are the priority of a prediction that waits.
	FlagHigh uint32 = 1 << 0
	FlagLow  uint32 = 1 << 1
	// FlagExplain on a prediction asks for the contributions of the features behind
	// the outputs.
	FlagExplain uint32 = 1 << 2
	// FlagFatal on an error says that the server hangs up.
	FlagFatal uint32 = 1 << 0
)

// Header is the first 32 bytes of a frame.
type Header struct {
	Kind Kind
	// Payload is how many bytes follow.
	Payload uint32
	// ID is the client's name for a request; answers repeat it.
	ID     uint64
	Handle uint32
	Rows   uint32
	// Deadline is in microseconds from when the server reads the frame; 0 for none.
	Deadline uint32
	Flags    uint32
}

// Put writes h to the first HeaderSize bytes of b.
func (h *Header) Put(b []byte) {
	_ = b[HeaderSize-1]
	binary.LittleEndian.PutUint64(b, uint64(magic)|Version<<16|uint64(h.Kind)<<24|uint64(h.Payload)<<32)
	binary.LittleEndian.PutUint64(b[8:], h.ID)
	binary.LittleEndian.PutUint32(b[16:], h.Handle)
	binary.LittleEndian.PutUint32(b[20:], h.Rows)
	binary.LittleEndian.PutUint32(b[24:], h.Deadline)
	binary.LittleEndian.PutUint32(b[28:], h.Flags)
}

// Parse reads the first HeaderSize bytes of b. It fails when they cannot be the
// start of a frame, after which nothing that follows can be understood.
func (h *Header) Parse(b []byte) error {
	_ = b[HeaderSize-1]
	first := binary.LittleEndian.Uint64(b)
	kind := Kind(first >> 24)
	switch {
	case uint16(first) != magic:
		return fmt.Errorf("a frame begins with the bytes %02x %02x instead of \"PK\"", b[0], b[1])
	case byte(first>>16) != Version:
		return fmt.Errorf("a frame is of version %d; this is version %d", b[2], Version)
	case kind == 0 || kind >= kinds:
		return fmt.Errorf("a frame is of the unknown kind %d", kind)
	}
	*h = Header{
		Kind: kind, Payload: uint32(first >> 32),
		ID:     binary.LittleEndian.Uint64(b[8:]),
		Handle: binary.LittleEndian.Uint32(b[16:]), Rows: binary.LittleEndian.Uint32(b[20:]),
		Deadline: binary.LittleEndian.Uint32(b[24:]), Flags: binary.LittleEndian.Uint32(b[28:]),
	}
	return nil
}
