// Command versitygw serves a directory as S3 for Picket's tests and benchmarks: versitygw's own gateway with its backend
// for directories, and without those for other clouds, which take minutes to compile.
//
//	VERSITYGW_ACCESS_KEY=... VERSITYGW_SECRET_KEY=... versitygw -listen 127.0.0.1:7070 -data DIR [-iam DIR] [-versions DIR] [-region R] [-cert PEM -key PEM]
//
// It says "listening" on standard output when it answers, and ends with SIGTERM or when its standard input does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "versitygw: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "", "address and port")
	data := flag.String("data", "", "the directory that holds the buckets")
	iam := flag.String("iam", "", "a directory for the accounts of users; none when empty")
	versions := flag.String("versions", "", "a directory for versions of objects; none are kept when empty")
	region := flag.String("region", "us-west-2", "the region that clients must sign for")
	cert := flag.String("cert", "", "PEM file of a certificate, for HTTPS")
	key := flag.String("key", "", "PEM file of its key")
	flag.Parse()
	if *listen == "" || *data == "" {
		return errors.New("-listen and -data are needed")
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	go func() { // whoever started it has ended
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()

	store := meta.XattrMeta{}
	if err := store.Test(*data); err != nil {
		return fmt.Errorf("the file system of %s keeps no extended attributes: %w", *data, err)
	}
	backend, err := posix.New(*data, store, posix.PosixOpts{VersioningDir: *versions, Concurrency: 512})
	if err != nil {
		return err
	}
	go announce(ctx, *listen)
	return embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
		RootUserAccess: os.Getenv("VERSITYGW_ACCESS_KEY"), RootUserSecret: os.Getenv("VERSITYGW_SECRET_KEY"),
		Region: *region, Ports: []string{*listen}, CertFile: *cert, KeyFile: *key, IAMDir: *iam,
		// The cache of accounts would be pruned all the time, by most of a core, unless told how often; files need none.
		IAMCacheDisable: true,
		MaxConnections:  2048, MaxRequests: 1024, MultipartMaxParts: 10000, KeepAlive: true, Quiet: true,
	})
}

// announce says when connections are accepted.
func announce(ctx context.Context, address string) {
	for ctx.Err() == nil {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
			fmt.Println("listening")
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
