package neo

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/picket-ml/picket/engine"
)

// relayMagic is the mark with which TVM begins a Relay VM program.
const relayMagic = 0xD225DE2F4214151D

// maxRelayVersion bounds the version in it, such as "0.8.dev0".
const maxRelayVersion = 32

// RelayVersion is the version of TVM that compiled the Relay VM program of the
// layout. TVM runs only those of its own version. Errors wrap engine.ErrArtifact and
// name the file.
func RelayVersion(a *engine.Artifact, l Layout) (string, error) {
	file, err := a.Open(l.Relay)
	if err != nil {
		return "", err
	}
	defer file.Close()
	version, err := readRelayVersion(file)
	if err != nil {
		return "", fmt.Errorf("%w: reading %s: %w", engine.ErrArtifact, l.Relay, err)
	}
	return version, nil
}

// readRelayVersion reads the beginning of a program: the mark, the length of the
// version, and the version.
func readRelayVersion(r io.Reader) (string, error) {
	var head [16]byte
	if _, err := io.ReadFull(r, head[:]); err != nil || binary.LittleEndian.Uint64(head[:]) != relayMagic {
		return "", fmt.Errorf("it does not begin as a Relay VM program does")
	}
	n := binary.LittleEndian.Uint64(head[8:])
	if n == 0 || n > maxRelayVersion {
		return "", fmt.Errorf("its version has %d bytes, and should have 1 to %d", n, maxRelayVersion)
	}
	version := make([]byte, n)
	if _, err := io.ReadFull(r, version); err != nil {
		return "", fmt.Errorf("it is cut off in its version")
	}
	for _, c := range version {
		if c <= ' ' || c >= 0x7f {
			return "", fmt.Errorf("its version is %q, which is none", version)
		}
	}
	return string(version), nil
}
