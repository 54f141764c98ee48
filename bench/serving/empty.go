package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/picket-ml/picket/bench/protocols"
)

// emptyServer as the first argument makes the program the empty server: of gRPC on the next two, a Unix socket and an address,
// and of HTTP on the last two.
const emptyServer = "empty-server"

// serveEmpty answers everything at once and knows no model: what gRPC and HTTP cost in Go.
func serveEmpty(ctx context.Context, addresses []string) error {
	if len(addresses) != 4 {
		return errors.New("the empty server takes four addresses")
	}
	var listeners []net.Listener
	for i, network := range []string{"unix", "tcp", "unix", "tcp"} {
		l, err := net.Listen(network, addresses[i])
		if err != nil {
			return fmt.Errorf("listening: %w", err)
		}
		listeners = append(listeners, l)
	}
	server := &http.Server{Handler: http.HandlerFunc(answerAtOnce), ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	for _, l := range listeners[2:] {
		go func() { _ = server.Serve(l) }() // until it is closed, with the program
	}
	return protocols.ServeEmptyOIP(ctx, listeners[:2]...)
}

// answerAtOnce reads a request and answers in the protocol's form with as many scores as its query asks for.
func answerAtOnce(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // the client has left
	}
	rows, err := strconv.Atoi(r.URL.RawQuery)
	if err != nil || rows < 1 {
		http.Error(w, "the query is to be a number of rows", http.StatusBadRequest)
		return
	}
	body := fmt.Sprintf(`{"outputs":[{"name":"output","datatype":"FP32","shape":[%d,1],"data":[0.12345678%s]}]}`, rows, strings.Repeat(",0.12345678", rows-1))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = io.WriteString(w, body)
}
