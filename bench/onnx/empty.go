//go:build cgo && linux

package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/picket-ml/picket/internal/lanewire"
)

// empty is a socket of the lane's kind on whose other side is nothing but a loop that reads: the least that a request over one takes. Both sides have their
// memory already, and nothing is looked at but how much came.
type empty struct {
	client *net.UnixConn
	asked  chan asked
	answer []byte
	ended  chan error
}

// asked is how many bytes the other side is to read, and to answer.
type asked struct{ request, answer int }

func newEmpty(path string, largest int) (*empty, error) {
	address := &net.UnixAddr{Name: path, Net: "unixpacket"}
	l, err := net.ListenUnix("unixpacket", address)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	defer l.Close()
	client, err := net.DialUnix("unixpacket", nil, address)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	server, err := l.AcceptUnix()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("accepting: %w", err), client.Close())
	}
	e := &empty{client: client, asked: make(chan asked, 1), answer: make([]byte, lanewire.MaxMessage), ended: make(chan error, 1)}
	go func() { e.ended <- errors.Join(serveEmpty(server, e.asked, make([]byte, largest)), server.Close()) }()
	return e, nil
}

func serveEmpty(conn *net.UnixConn, asked <-chan asked, memory []byte) error {
	answer := make([]byte, lanewire.MaxMessage)
	for a := range asked {
		for to := memory[:a.request]; len(to) > 0; {
			n, err := conn.Read(to)
			if err != nil {
				return err
			}
			to = to[n:]
		}
		if _, err := conn.Write(answer[:a.answer]); err != nil {
			return err
		}
	}
	return nil
}

// ask sends a request and waits for an answer of so many bytes, at most those of a message.
func (e *empty) ask(request []byte, answer int) error {
	e.asked <- asked{len(request), answer}
	for len(request) > 0 {
		n, err := e.client.Write(request[:min(len(request), lanewire.MaxMessage)])
		if err != nil {
			return err
		}
		request = request[n:]
	}
	_, err := e.client.Read(e.answer)
	return err
}

func (e *empty) close() error {
	close(e.asked)
	return errors.Join(e.client.Close(), <-e.ended)
}
