// Command package measures what it takes to open a package for the first time: to check its signature, unpack it into the
// store, and hash every file, against unpacking it with gzip and hashing what comes out with SHA-256 on one core and keeping
// nothing. JSON goes to standard output.
//
// The other side uses the same decompressor, which is the faster of the two that Go programs have. Packages and store lie in
// one temporary folder; the results say of which kind of file system. Nothing is forced to disk, on either side.
//
// On one core the processor's time counts, which is how long it takes on a core that does nothing else; on more the time that
// passes. A package of 1 GiB has one turn for each side, because making it takes most of a minute; smaller ones have several.
package main

import (
	"archive/tar"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/internal/store"
	"github.com/picket-ml/picket/packaging"
	"github.com/picket-ml/picket/packaging/signing"
)

// result is how fast one side went through one package.
type result struct {
	Content    string  `json:"content"`
	Side       string  `json:"side"`
	Cores      int     `json:"cores"`
	Bytes      int64   `json:"bytes"`      // unpacked
	Compressed int64   `json:"compressed"` // the archive
	FileSystem string  `json:"file_system"`
	Seconds    float64 `json:"seconds"`     // median
	CPUSeconds float64 `json:"cpu_seconds"` // median
	MBPerS     float64 `json:"mb_per_s"`
	Turns      int     `json:"turns"`
}

// least is the promise: the share of the other side's speed.
const least = 0.8

func main() {
	size := flag.Int64("size", 64<<20, "how many `BYTES` a package holds, for several turns")
	rounds := flag.Int("rounds", 5, "how many `TURNS` those are")
	large := flag.Int64("large", 1<<30, "how many `BYTES` the package of weights holds that has one turn; 0 for none")
	program.Main("bench-package", func(ctx context.Context) error { return run(ctx, *size, *rounds, *large) })
}

func run(ctx context.Context, size int64, rounds int, large int64) error {
	out := report.New()
	var results []result
	for _, content := range []struct {
		name   string
		fill   func([]byte, *mathrand.Rand)
		size   int64
		rounds int
	}{{"weights", weights, size, rounds}, {"trees", trees, size, rounds}, {"weights", weights, large, 1}} {
		if content.size == 0 {
			continue
		}
		more, err := measure(ctx, content.name, content.fill, content.size, content.rounds, out)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", content.name, err)
		}
		results = append(results, more...)
	}
	out.Results = results
	return out.Write()
}

// weights are float32 as of a trained network, which hardly compress.
func weights(b []byte, random *mathrand.Rand) {
	for i := 0; i+4 <= len(b); i += 4 {
		binary.LittleEndian.PutUint32(b[i:], math.Float32bits(float32(random.NormFloat64()*0.02)))
	}
}

// trees are nodes of a forest: a feature, a threshold of few values, two children close by, which compress well.
func trees(b []byte, random *mathrand.Rand) {
	for i := 0; i+16 <= len(b); i += 16 {
		binary.LittleEndian.PutUint32(b[i:], uint32(random.IntN(64)))
		binary.LittleEndian.PutUint32(b[i+4:], math.Float32bits(float32(random.IntN(4096))/16))
		binary.LittleEndian.PutUint32(b[i+8:], uint32(i/16+1))
		binary.LittleEndian.PutUint32(b[i+12:], uint32(i/16+1+random.IntN(32)))
	}
}

func measure(ctx context.Context, name string, fill func([]byte, *mathrand.Rand), size int64, rounds int, out *report.Report) (results []result, err error) {
	dir, err := os.MkdirTemp("", "picket-bench-package-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path, trust, err := build(ctx, dir, fill, size)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	var failed error
	sides := []struct {
		name  string
		cores int
		run   func() error
	}{
		{"gzip and SHA-256", 1, func() error { return plainly(path) }},
		{"picket", 1, func() error { return open(ctx, dir, path, trust) }},
		{"picket", runtime.NumCPU(), func() error { return open(ctx, dir, path, trust) }},
	}
	took, cpu := make([][]time.Duration, len(sides)), make([][]time.Duration, len(sides))
	for range rounds {
		for _, i := range mathrand.Perm(len(sides)) {
			before := runtime.GOMAXPROCS(sides[i].cores)
			start, busy := time.Now(), processorTime()
			failed = errors.Join(failed, sides[i].run())
			took[i], cpu[i] = append(took[i], time.Since(start)), append(cpu[i], processorTime()-busy)
			runtime.GOMAXPROCS(before)
			if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
				return nil, err
			}
		}
	}
	if failed != nil {
		return nil, failed
	}
	seconds, busy := make([]float64, len(sides)), make([]float64, len(sides))
	for i, s := range sides {
		seconds[i], busy[i] = interleave.Median(took[i]).Seconds(), interleave.Median(cpu[i]).Seconds()
		results = append(results, result{
			Content: name, Side: s.name, Cores: s.cores, Bytes: size, Compressed: info.Size(), FileSystem: report.FileSystem(dir),
			Seconds: seconds[i], CPUSeconds: busy[i], MBPerS: float64(size) / seconds[i] / 1e6, Turns: rounds,
		})
	}
	what := fmt.Sprintf("verify and unpack %d MiB of %s (%d MiB packed, %s) against gzip and SHA-256 on one core", size>>20, name, info.Size()>>20, report.FileSystem(dir))
	out.Reach(what+", on one core too, by the processor's time", busy[0]/busy[1], least)
	out.Reach(fmt.Sprintf("%s, on %d", what, runtime.NumCPU()), seconds[0]/seconds[2], least)
	return results, nil
}

// build makes a signed package of one file, and the trust in its signer.
func build(ctx context.Context, dir string, fill func([]byte, *mathrand.Rand), size int64) (string, *store.Trust, error) {
	artifact := filepath.Join(dir, "artifact")
	if err := os.Mkdir(artifact, 0o755); err != nil {
		return "", nil, err
	}
	f, err := os.Create(filepath.Join(artifact, "compiled.params"))
	if err != nil {
		return "", nil, err
	}
	random, chunk := mathrand.New(mathrand.NewPCG(1, 2)), make([]byte, 1<<20)
	for left := size; left > 0; left -= int64(len(chunk)) {
		chunk = chunk[:min(left, int64(len(chunk)))]
		fill(chunk, random)
		if _, err := f.Write(chunk); err != nil {
			return "", nil, err
		}
	}
	if err := f.Close(); err != nil {
		return "", nil, err
	}
	path := filepath.Join(dir, "model-1.tar.gz")
	built, err := packaging.Build(ctx, packaging.BuildOptions{Name: "model", Version: "1", Out: path, Variants: []packaging.BuildVariant{{Name: "any", Dir: artifact}}})
	if err != nil {
		return "", nil, err
	}
	if err := os.RemoveAll(artifact); err != nil {
		return "", nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", nil, err
	}
	manifest, err := built.Manifest.Encode()
	if err != nil {
		return "", nil, err
	}
	bundle, err := signing.Sign("model-1", signing.FilesOf(manifest, built.Manifest), key, nil)
	if err != nil {
		return "", nil, err
	}
	unsigned, err := os.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer unsigned.Close()
	return path, store.TrustKeys(&key.PublicKey), packaging.Attach(ctx, unsigned, path, true, bundle)
}

// open has a host that has never seen the package open it.
func open(ctx context.Context, dir, path string, trust *store.Trust) (err error) {
	s, err := store.New(store.Options{State: filepath.Join(dir, "state"), Trust: trust})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	a, err := s.Open(ctx, path)
	if err != nil {
		return err
	}
	return a.Close()
}

// plainly reads the same archive and keeps nothing but the digest.
func plainly(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	r, buffer := tar.NewReader(zip), make([]byte, 256<<10)
	for {
		if _, err := r.Next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		digest := sha256.New()
		for {
			n, err := r.Read(buffer)
			digest.Write(buffer[:n])
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
		}
		digest.Sum(nil)
	}
}

// processorTime is how long this process has kept processors busy.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0 // it does not fail for the process itself
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
