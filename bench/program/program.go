// Package program is what the programs of benchmarks have in common: flags, signals, and how they fail.
package program

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Main parses the flags that were defined before and runs a benchmark, whose context ends with the first interrupt or SIGTERM, so
// that it takes away what it has made; the second ends the program at once. It does not return: the program ends with 1, and a
// sentence that begins with its name, where the benchmark fails.
func Main(name string, run func(ctx context.Context) error) {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}
