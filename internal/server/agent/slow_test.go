package agent

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// A client that has greeted and then sends a frame byte by byte is hung up on after some time; a silent one that answers
// when it is asked is not.
func TestSlowFrames(t *testing.T) {
	f := startRowsOf3(t, Options{silence: time.Second}) // which is gRPC's least
	if _, err := f.ListModels(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	const (
		greeting = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
		frame    = "\x00\x40\x00\x01\x04\x00\x00\x00\x01" // the head of 16 KiB of headers
	)
	conn, err := net.Dial("unix", f.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, greeting+frame); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; {
		if _, err := conn.Write([]byte{0}); err != nil {
			break // hung up on
		}
		if time.Now().After(end) {
			t.Fatal("a client that sends a frame byte by byte is still connected after a minute")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
	f.checkServing(t) // over the connection that was quiet meanwhile
}
