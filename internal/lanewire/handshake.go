package lanewire

import (
	"encoding/binary"
	"fmt"
)

// HelloSize and WelcomeSize are the least bytes of these payloads; later ones may be
// longer. A Welcome has 16 more for its connection's number, which the first servers did
// not send.
const (
	HelloSize   = 8
	WelcomeSize = 24
)

// FeatureRing in a Hello asks for a ring. In a Welcome it says that a descriptor of
// the ring came along, and that all further frames go through it.
const FeatureRing uint32 = 1 << 0

// Hello is what a client says first.
type Hello struct {
	// Lowest and Highest are the versions it speaks.
	Lowest, Highest uint16
	// Features are the additions to the protocol that it wants.
	Features uint32
}

// Append appends the payload to b.
func (h Hello) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, h.Lowest)
	b = binary.LittleEndian.AppendUint16(b, h.Highest)
	return binary.LittleEndian.AppendUint32(b, h.Features)
}

// ParseHello reads the payload.
func ParseHello(b []byte) (Hello, error) {
	if len(b) < HelloSize {
		return Hello{}, fmt.Errorf("a hello has %d bytes, at least %d are needed", len(b), HelloSize)
	}
	return Hello{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])}, nil
}

// Welcome is the server's answer to Hello.
type Welcome struct {
	Version uint16
	// Features are those that the client wants and has got.
	Features uint32
	// MaxMessage is the most bytes of one message on a SOCK_SEQPACKET socket, either way.
	MaxMessage uint32
	// MaxPayload is the most bytes of a frame's payload, either way.
	MaxPayload uint32
	// MaxOutstanding is how many requests of the connection may wait for their answers.
	MaxOutstanding uint32
	// MaxModels is how many models may be open on the connection.
	MaxModels uint32
	// Connection is the connection's number, which no other has: with a request's id it
	// names an inference. Zero from a server that does not say it.
	Connection [16]byte
}

// Append appends the payload to b.
func (w Welcome) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(w.Version))
	for _, v := range [...]uint32{w.Features, w.MaxMessage, w.MaxPayload, w.MaxOutstanding, w.MaxModels} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return append(b, w.Connection[:]...)
}

// ParseWelcome reads the payload.
func ParseWelcome(b []byte) (Welcome, error) {
	if len(b) < WelcomeSize {
		return Welcome{}, fmt.Errorf("a welcome has %d bytes, at least %d are needed", len(b), WelcomeSize)
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	w := Welcome{Version: binary.LittleEndian.Uint16(b), Features: u32(4), MaxMessage: u32(8), MaxPayload: u32(12), MaxOutstanding: u32(16), MaxModels: u32(20)}
	if len(b) >= WelcomeSize+len(w.Connection) {
		copy(w.Connection[:], b[WelcomeSize:])
	}
	switch {
	case w.Version != Version:
		return Welcome{}, fmt.Errorf("the server speaks version %d, this client version %d", w.Version, Version)
	case w.MaxMessage < HeaderSize || w.MaxMessage > MaxMessage || w.MaxOutstanding == 0 || w.MaxModels == 0:
		return Welcome{}, fmt.Errorf("a welcome has limits that leave no room for a request: %+v", w)
	}
	return w, nil
}
