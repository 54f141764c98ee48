// Command soak tries a running daemon for as long as it is told: with clients that are slow or read nothing (slow), with millions of requests and
// thousands of loads (leaks), with clients that die holding shared memory and others that name memory which is none (shm), with models that are
// replaced under load (change), with malformed artifacts in the place of sound ones (artifacts), and with clients
// whose requests were changed by chance (noise). It also looks at how much of each parser its tests run, the inputs of fuzzing included (parsers).
//
// Every part but that starts a picketd of its own, watches it from outside, in /proc and in its metrics, and says what held and what did not. `make soak`
// runs the full figures of docs/SPECIFICATION.md, `make soak-short`, a part of `make test`, the same code with fewer connections and rounds:
//
//	go run ./bench/soak [-short] [flags] [parsers] [slow] [leaks] [shm] [change] [artifacts] [noise]
//
// Without a part it runs all. What is judged does not depend on how fast the machine is; times are told and not judged.
package main
