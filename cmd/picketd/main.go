// Picketd is the daemon: it reads its configuration, opens its sockets, loads
// the models it was given, and serves until it is told to stop.
package main

import "os"

// version is stamped by the linker.
var version = "unversioned"

func main() {
	os.Exit(start(os.Args[1:]))
}
