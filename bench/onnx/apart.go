//go:build cgo && linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/picket-ml/picket/bench/native"
	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/target"
	"github.com/picket-ml/picket/lane"
)

// daemon is picketd with the network, and views of it of two clients, of which one has a ring.
func daemon(ctx context.Context, s setting, folder string) (onSocket, inRing *lane.Model, stop func() error, err error) {
	served := target.Served{Model: &target.Model{ModelInfo: report.ModelInfo{Name: "network"}, Dir: filepath.Join(folder, "model")}, Backend: "onnx", Threads: 1}
	dir := filepath.Join(folder, "picketd")
	d, err := target.StartDaemon(ctx, dir, []target.Served{served}, target.DaemonOptions{Program: s.picketd, Extra: fmt.Sprintf("backends: {onnxruntime: %q}\n", s.library)})
	if err != nil {
		return nil, nil, nil, err
	}
	stop = d.Stop
	dial := func(o lane.Options) (*lane.Model, error) {
		client, err := lane.Dial(ctx, d.Ask("lane", served, 1).Address, o)
		if err != nil {
			return nil, err
		}
		before := stop
		stop = func() error { return errors.Join(client.Close(), before()) }
		if client.HasRing() != o.Ring {
			return nil, errors.New("picketd has no ring to give")
		}
		return client.Model(ctx, served.Name())
	}
	if onSocket, err = dial(lane.Options{}); err != nil {
		return nil, nil, stop, err
	}
	inRing, err = dial(lane.Options{Ring: true})
	return onSocket, inRing, stop, err
}

// serveRemote as the first argument makes the program the C API in a process of its own; see remote.
const serveRemote = "serve-remote"

// remote is the C API in another process, asked from C: what anybody would pay at least who does not run the network himself.
func remote(ctx context.Context, folder string, task native.Task) (r *native.Remote, stop func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("finding this program: %w", err)
	}
	dir := filepath.Join(folder, "remote")
	server, err := process.Launch(dir, "the C API", self, serveRemote, dir, task.Library, task.Model, strconv.Itoa(task.Features), strconv.Itoa(task.Outputs))
	if err != nil {
		return nil, nil, err
	}
	var conn *net.UnixConn
	if err := server.Answers(ctx, func(context.Context) error {
		conn, err = net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socketIn(dir), Net: "unixpacket"})
		return err
	}); err != nil {
		server.End()
		return nil, nil, fmt.Errorf("connecting: %w", err)
	}
	defer conn.Close()
	if r, err = native.OpenRemote(conn, memoryIn(dir), testRows, task); err != nil {
		server.End()
		return nil, nil, err
	}
	return r, func() error {
		err := r.Close()
		server.End()
		return err
	}, nil
}

func socketIn(dir string) string { return filepath.Join(dir, "socket") }
func memoryIn(dir string) string { return filepath.Join(dir, "memory") }

// serve is the whole program with serveRemote: it answers one client, until that leaves. args are a folder and the fields of the task.
func serve(args []string) error {
	if len(args) != 5 {
		return fmt.Errorf("%s takes a folder, a library, a model and two numbers", serveRemote)
	}
	dir, task := args[0], native.Task{Library: args[1], Model: args[2], Threads: 1}
	for i, to := range []*int{&task.Features, &task.Outputs} {
		var err error
		if *to, err = strconv.Atoi(args[3+i]); err != nil {
			return fmt.Errorf("reading the arguments: %w", err)
		}
	}
	peer, err := native.OpenPeer(native.ONNXRuntime, task)
	if err != nil {
		return err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socketIn(dir), Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer l.Close()
	if err := l.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return fmt.Errorf("waiting for the client: %w", err)
	}
	conn, err := l.AcceptUnix()
	if err != nil {
		return fmt.Errorf("waiting for the client: %w", err)
	}
	defer conn.Close()
	r, err := native.OpenRemote(conn, memoryIn(dir), testRows, task)
	if err != nil {
		return err
	}
	return r.Serve(peer)
}
