package oserror_test

import (
	"fmt"
	"io/fs"
	"net"
	"testing"

	"github.com/picket-ml/picket/internal/oserror"
)

// What the system itself says of a port on which nobody listens, and of a connection that the other end has broken, is known for that.
func TestNetwork(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	accepted := make(chan net.Conn)
	go func() {
		c, err := l.Accept()
		if err != nil {
			close(accepted)
			return
		}
		accepted <- c
	}()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	other, ok := <-accepted
	if !ok {
		t.Fatal("nobody was accepted")
	}
	// With no time to linger, and so with a reset.
	if err := other.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	other.Close()
	if _, err := c.Read(make([]byte, 1)); !oserror.Reset(err) || oserror.Refused(err) {
		t.Errorf("a connection that was broken: %v", err)
	}
	l.Close()
	if _, err := net.Dial("tcp", address); !oserror.Refused(err) || oserror.Reset(err) {
		t.Errorf("a port where nobody listens: %v", err)
	}
}

func TestDisk(t *testing.T) {
	full := fmt.Errorf("writing: %w", &fs.PathError{Op: "write", Path: "x", Err: oserror.ErrNoRoom})
	if !oserror.NoRoom(full) || oserror.OverQuota(full) || oserror.OutOfFiles(full) {
		t.Error("a full disk is not known for one")
	}
	if oserror.NoRoom(nil) || oserror.NoRoom(fs.ErrNotExist) {
		t.Error("anything is taken for a full disk")
	}
}
