// Command demo shows Picket at work, as `make demo`: it compiles a fraud model for this host, starts the daemon, scores
// card transactions over its socket the way a payment service would, checks every score against XGBoost's own, and
// leaves the daemon running until Ctrl-C.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

func main() {
	// The daemon is told to end with the thread that started it (see startDaemon), which therefore has to be this one.
	runtime.LockOSThread()
	var d demo
	flag.StringVar(&d.picket, "picket", "bin/picket", "the picket command")
	flag.StringVar(&d.picketd, "picketd", "bin/picketd", "the daemon")
	flag.StringVar(&d.data, "data", "examples/demo", "the folder with the model and the transactions")
	flag.BoolVar(&d.once, "once", false, "stop at the end instead of leaving the daemon running")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "demo: it takes no arguments, but %q was given; see demo -help\n", flag.Arg(0))
		os.Exit(2)
	}
	d.out = newScreen(os.Stdout, os.Getenv)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := d.run(ctx)
	interrupted := ctx.Err() != nil
	stop()
	if err == nil {
		return
	}
	if interrupted {
		err = errors.New("interrupted")
	}
	fmt.Fprintf(os.Stderr, "demo: %v\n", err)
	os.Exit(1)
}
