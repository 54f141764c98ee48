//go:build !cgo || !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench-gpu: this program was built without cgo or for another system than Linux, and the CUDA driver needs both")
	os.Exit(1)
}
