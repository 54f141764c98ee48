package lane

import "golang.org/x/sys/unix"

func closeDescriptor(fd int) { _ = unix.Close(fd) } // it was open

// descriptorRights is the message with which a descriptor goes over a socket.
func descriptorRights(fd int) []byte { return unix.UnixRights(fd) }
