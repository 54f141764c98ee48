// Command picket is the operator's and performance engineer's tool: it looks at a host, makes artifacts of models, and
// talks to a running picketd over its sockets.
package main

import (
	"context"
	"os"
)

// version and commit, the one of the sources that they were built from, are stamped
// by the linker, and not changed after.
var (
	version = "unversioned"
	commit  = ""
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
