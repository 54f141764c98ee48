// Command picket is the operator's and performance engineer's tool: it looks at a host, makes artifacts of models, and
// talks to a running picketd over its sockets.
package main

import (
	"context"
	"os"
)

// version is stamped by the linker, and not changed after.
var version = "unversioned"

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
