//go:build linux

package main

import (
	"bufio"
	_ "embed"
	"fmt"
	"regexp"
	"strings"
)

// exceptionsFile lists the tests that cannot pass under emulation.
//
//go:embed exceptions.txt
var exceptionsFile string

// exception is one line of exceptions.txt.
type exception struct {
	pkg       string // below the module: engine, cmd/picketd
	test      string // TestX, or TestX/part as go test prints it
	sometimes bool   // it passes now and then, which is no news
	reason    string
}

// parseExceptions reads lines of a package, a test, never or sometimes, and a reason. Lines that begin with # and empty ones say nothing.
func parseExceptions(text string) ([]exception, error) {
	var all []exception
	seen := map[[2]string]bool{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[2] != "never" && fields[2] != "sometimes" {
			return nil, fmt.Errorf("exceptions.txt, line %d: %q is not a package, a test, never or sometimes, and a reason", n, line)
		}
		e := exception{pkg: fields[0], test: fields[1], sometimes: fields[2] == "sometimes", reason: strings.Join(fields[3:], " ")}
		if seen[[2]string{e.pkg, e.test}] {
			return nil, fmt.Errorf("exceptions.txt, line %d: %s of %s stands there twice", n, e.test, e.pkg)
		}
		seen[[2]string{e.pkg, e.test}] = true
		all = append(all, e)
	}
	return all, lines.Err()
}

// of returns the exceptions of one package.
func of(all []exception, pkg string) []exception {
	var own []exception
	for _, e := range all {
		if e.pkg == pkg {
			own = append(own, e)
		}
	}
	return own
}

// pattern is what -test.run and -test.skip take for exactly these tests.
func pattern(tests []exception) string {
	alternatives := make([]string, len(tests))
	for i, e := range tests {
		parts := strings.Split(e.test, "/")
		for j, part := range parts {
			parts[j] = "^" + regexp.QuoteMeta(part) + "$"
		}
		alternatives[i] = strings.Join(parts, "/")
	}
	return strings.Join(alternatives, "|")
}
