package agent

import (
	"context"
	"io"
	"net"
	"testing"
)

// Clients that stop in the middle of HTTP/2's greeting hold up the end no more
// than those that have said nothing.
func TestShutdownWithHalfAGreeting(t *testing.T) {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	for what, sent := range map[string]string{
		"a preface alone":    preface,
		"half of a frame":    preface + "\x00\x00",
		"settings cut short": preface + "\x00\x00\x06\x04\x00\x00\x00\x00\x00",
	} {
		t.Run(what, func(t *testing.T) {
			f := startRowsOf3(t, Options{})
			conn, err := net.Dial("unix", f.path)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, sent); err != nil {
				t.Fatal(err)
			}
			f.checkServing(t) // by then the other connection is accepted too
			ctx, cancel := context.WithTimeout(t.Context(), prefaceTimeout/2)
			defer cancel()
			if err := f.server.Shutdown(ctx); err != nil {
				t.Errorf("no call was under way: %v", err)
			}
		})
	}
}
