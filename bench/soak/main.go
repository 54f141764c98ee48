package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/picket-ml/picket/internal/testkit"
)

// part is one kind of trouble.
type part struct {
	name string
	run  func(ctx context.Context, s *soak) error
}

var parts = []part{{"parsers", readers}, {"slow", slow}, {"leaks", leaks}, {"shm", sharedMemory}, {"change", change}, {"artifacts", artifacts}, {"noise", noise}}

// soak is what the parts have in common.
type soak struct {
	amounts
	kind    string // of malformed artifacts; empty for all
	dir     string // for sockets and models; each part has a folder of its own in it
	picketd string
	seed    uint64
	random  *rand.Rand
	out     *report
}

// amounts are how much of everything is done.
type amounts struct {
	short        bool
	connections  int // slow ones, per protocol
	silent       int // that never read, per protocol
	requests     int // over the lane
	calls        int // over each of the others
	cycles       int // of loading and unloading, per backend
	rounds       int // of clients that die, per kind
	replacements int // of a model under load
	noisy        int // clients that send changed requests, per protocol
	every        int // of the malformed artifacts, so many are passed over for each that is tried
}

var (
	full  = amounts{connections: 1000, silent: 200, requests: 10_000_000, calls: 100_000, cycles: 1000, rounds: 10_000, replacements: 1000, every: 1, noisy: 20_000}
	brief = amounts{short: true, connections: 750, silent: 150, requests: 1_000_000, calls: 10_000, cycles: 100, rounds: 500, replacements: 50, every: 10, noisy: 300}
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == victimArgument {
		os.Exit(beVictim(os.Args[2:]))
	}
	failed, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
	if failed {
		os.Exit(1)
	}
}

// run is the whole program. What did not hold has been printed.
func run() (failed bool, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &soak{out: &report{w: os.Stdout}}
	flag.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()), "what chance begins with")
	flag.StringVar(&s.picketd, "picketd", "", "try this daemon instead of building one")
	flag.StringVar(&s.kind, "kind", "", "malformed artifacts of this kind only, such as tvm")
	short := flag.Bool("short", false, "the amounts of make test instead of the full figures; flags for single amounts are stronger")
	given := full
	for name, amount := range given.flags() {
		flag.IntVar(amount, name, 0, "how many "+name+"; 0 for the figure")
	}
	flag.Parse()
	s.amounts = full
	if *short {
		s.amounts = brief
	}
	wanted := given.flags()
	for name, amount := range s.flags() {
		if n := *wanted[name]; n > 0 {
			*amount = n
		}
	}
	names := flag.Args()
	for _, name := range names {
		if !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			return false, fmt.Errorf("there is no part called %q", name)
		}
	}

	if s.dir, err = os.MkdirTemp("", "soak-"); err != nil {
		return false, fmt.Errorf("making a folder for sockets: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if s.picketd == "" {
		s.picketd = filepath.Join(s.dir, "picketd")
		build := exec.CommandContext(ctx, "go", "build", "-o", s.picketd, "./cmd/picketd")
		build.Dir, build.Stderr = testkit.ModuleRoot(), os.Stderr
		if err := build.Run(); err != nil {
			return false, fmt.Errorf("building picketd: %w", err)
		}
	}
	raiseFiles()
	s.random = rand.New(rand.NewPCG(s.seed, 1))
	began := time.Now()
	s.out.line("seed %d", s.seed)
	for _, p := range parts {
		if len(names) > 0 && !slices.Contains(names, p.name) {
			continue
		}
		s.out.begin(p.name)
		if err := p.run(ctx, s); err != nil {
			if ctx.Err() != nil {
				return false, errors.New("interrupted")
			}
			s.out.fail("the part came to its end", strings.TrimSpace(err.Error()))
		}
	}
	return s.out.summary(time.Since(began)), nil
}

// flags are the amounts by the names of their flags.
func (a *amounts) flags() map[string]*int {
	return map[string]*int{
		"connections": &a.connections, "silent": &a.silent, "requests": &a.requests, "calls": &a.calls,
		"cycles": &a.cycles, "rounds": &a.rounds, "replacements": &a.replacements, "every": &a.every, "noisy": &a.noisy,
	}
}

// raiseFiles lets this process, and the daemons it starts, have as many files open as the system lets it. That it is not enough is said by whoever
// needs one more.
func raiseFiles() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
}
