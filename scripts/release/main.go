// Release does what a release needs besides compilers and archives: it writes the list
// of what is in it (SPDX), signs the files, and says which C library a program needs.
//
//	go run ./scripts/release sbom --name NAME --version V [--debian DIR] [--python NAME@VERSION] PROGRAM... > FILE
//	go run ./scripts/release sign --key PEM DIR
//	go run ./scripts/release verify --key PEM DIR
//	go run ./scripts/release glibc PROGRAM...
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return errors.New("say what is to be done: sbom, sign, verify or glibc")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	switch args[0] {
	case "sbom":
		var s source
		flags.StringVar(&s.name, "name", "", "what is described, `NAME`")
		flags.StringVar(&s.version, "version", "", "its `VERSION`")
		flags.StringVar(&s.debian, "debian", "", "a `DIR` with the control files of Debian packages that are part of it")
		flags.Func("python", "a package from PyPI that is part of it, `NAME@VERSION`; may be repeated", func(p string) error {
			s.python = append(s.python, p)
			return nil
		})
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		s.programs = flags.Args()
		return writeSBOM(stdout, s)
	case "sign", "verify":
		key := flags.String("key", "", "the private key to sign with, or the public one to verify with, a PEM `FILE`")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		if flags.NArg() != 1 || *key == "" {
			return fmt.Errorf("%s takes --key and one directory", args[0])
		}
		if args[0] == "sign" {
			return sign(flags.Arg(0), *key)
		}
		return verify(stdout, flags.Arg(0), *key)
	case "glibc":
		return glibc(stdout, args[1:])
	}
	return fmt.Errorf("there is no command %q: sbom, sign, verify and glibc are", args[0])
}

// epoch is the time that everything in a release has, $SOURCE_DATE_EPOCH: the same
// input gives the same bytes.
func epoch() (time.Time, error) {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return time.Time{}, errors.New("set SOURCE_DATE_EPOCH to the time of the release in seconds since 1970")
	}
	return time.Unix(seconds, 0).UTC(), nil
}
