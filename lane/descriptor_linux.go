package lane

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func closeDescriptor(fd int) { _ = unix.Close(fd) } // it was open

// controlSize is room for what may come with a message: four descriptors.
var controlSize = syscall.CmsgSpace(4 * 4)

// descriptorsIn are those that came with a message, the caller's to close, after an error too.
func descriptorsIn(control []byte) (descriptors []int, err error) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		if rights, err := syscall.ParseUnixRights(&messages[i]); err == nil { // others are not ours
			descriptors = append(descriptors, rights...)
		}
	}
	return descriptors, nil
}
