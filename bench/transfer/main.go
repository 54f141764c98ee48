// Command transfer measures how fast picket package pull, s5cmd and the AWS command line fetch the same object from the
// same store, a versitygw on this machine: from the start of the program to its end, in turns whose order is drawn anew
// each time. JSON goes to standard output.
//
// picket holds what comes against its digest, makes sure of the room and forces the file to disk; the others do none of these. Beside
// them, for who wants of s5cmd what a pull gives, is s5cmd whose file is hashed and forced to disk when it is there, by this process.
// The store shares the processors with them. Files go to a file system in memory where there is one, so that the disk is not what
// is measured, and the results say of which kind it is.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/internal/testkit/s3"
	"github.com/picket-ml/picket/internal/transfer"
)

// The other sides, pinned; s5cmd's version is in tools/s5cmd.
const (
	s5cmdVersion = "v2.3.0"
	awsVersion   = "1.46.3"
)

const (
	leastOfS5cmd = 0.95
	leastOfAWS   = 1.0
)

// result is how fast one side fetched one object.
type result struct {
	Side       string    `json:"side"`
	Bytes      int64     `json:"bytes"`
	FileSystem string    `json:"file_system"`
	Seconds    float64   `json:"seconds"` // median
	Quartiles  []float64 `json:"seconds_quartiles"`
	MBPerS     float64   `json:"mb_per_s"`
	CPUSeconds float64   `json:"cpu_seconds"` // of the program alone, median
}

func main() {
	sizes := flag.String("sizes", "256,1024", "how many `MIB` the objects have")
	rounds := flag.Int("rounds", 11, "how many `TURNS` each side has, but for aws s3 cp, which has a third of them")
	to := flag.String("to", "", "the `FOLDER` to fetch into; else one in memory")
	program.Main("bench-transfer", func(ctx context.Context) error { return run(ctx, *sizes, *rounds, *to) })
}

func run(ctx context.Context, sizes string, rounds int, to string) (err error) {
	out := report.New()
	dir, err := os.MkdirTemp("", "picket-bench-transfer-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tools, err := build(ctx, dir)
	if err != nil {
		return err
	}
	if to == "" {
		to = inMemory(dir)
	}
	if to, err = os.MkdirTemp(to, "picket-bench-transfer-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(to)) }()

	gateway, err := s3.Build()
	if err != nil {
		return err
	}
	server, err := s3.Launch(gateway, dir, s3.Settings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	out.Servers = []report.Server{{Name: "versitygw", Version: "v1.8.0"}, {Name: "s5cmd", Version: s5cmdVersion}, {Name: "aws s3 cp", Version: awsVersion}}
	var results []result
	for text := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-sizes: %q is no number of MiB", text)
		}
		more, err := measure(ctx, server, tools, to, int64(n)<<20, rounds, out)
		if err != nil {
			return err
		}
		results = append(results, more...)
	}
	out.Results = results
	return out.Write()
}

// tools are the programs' paths.
type tools struct{ picket, s5cmd, aws string }

// build makes all sides, in .cache where they do not change.
func build(ctx context.Context, dir string) (t tools, err error) {
	root := testkit.ModuleRoot()
	cache := filepath.Join(root, ".cache", "bench-transfer")
	t = tools{filepath.Join(dir, "picket"), filepath.Join(cache, "s5cmd-"+s5cmdVersion), filepath.Join(cache, "awscli-"+awsVersion, "bin", "aws")}
	steps := [][]string{{"go", "build", "-C", root, "-o", t.picket, "./cmd/picket"}}
	if _, err := os.Stat(t.s5cmd); err != nil {
		steps = append(steps, []string{"go", "build", "-C", filepath.Join(root, "tools", "s5cmd"), "-o", t.s5cmd, "github.com/peak/s5cmd/v2"})
	}
	if _, err := os.Stat(t.aws); err != nil {
		venv := filepath.Dir(filepath.Dir(t.aws))
		steps = append(steps, []string{"python3", "-m", "venv", "--clear", venv}, []string{filepath.Join(venv, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", "awscli==" + awsVersion})
	}
	for _, step := range steps {
		command := exec.CommandContext(ctx, step[0], step[1:]...)
		command.Stderr = os.Stderr
		if err := command.Run(); err != nil {
			return t, fmt.Errorf("%s: %w", strings.Join(step, " "), err)
		}
	}
	return t, nil
}

// inMemory is a folder whose files are in memory, or otherwise.
func inMemory(otherwise string) string {
	const shared = "/dev/shm"
	if report.FileSystem(shared) == "tmpfs" {
		return shared
	}
	return otherwise
}

func measure(ctx context.Context, server *s3.Server, t tools, to string, size int64, rounds int, out *report.Report) ([]result, error) {
	client, err := server.Options().S3(ctx)
	if err != nil {
		return nil, err
	}
	bucket := fmt.Sprintf("bench-%d", size)
	if _, err := client.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: &bucket}); err != nil {
		return nil, err
	}
	object := transfer.Object{Client: client, Bucket: bucket, Key: "packages/model-1.tar.gz"}
	if err := store(ctx, filepath.Dir(to), object, size); err != nil {
		return nil, fmt.Errorf("storing %d bytes: %w", size, err)
	}
	file := filepath.Join(to, "model-1.tar.gz")
	s5cmd := []string{t.s5cmd, "--endpoint-url", server.Endpoint, "--log", "error", "cp", object.String(), file}
	sides := []struct {
		name  string
		args  []string
		then  func(string) error
		every int // it has a turn in each so many rounds
	}{
		{"picket", []string{t.picket, "package", "pull", object.String(), "--to", to, "--path-style", "--json"}, nil, 1},
		{"s5cmd", s5cmd, nil, 1},
		{"aws s3 cp", []string{t.aws, "--endpoint-url", server.Endpoint, "s3", "cp", "--only-show-errors", object.String(), file}, nil, 3},
		{"s5cmd, then SHA-256 and fsync", s5cmd, hashAndSync, 1},
	}
	took, cpu := make([][]time.Duration, len(sides)), make([][]time.Duration, len(sides))
	for round := range rounds {
		for _, i := range mathrand.Perm(len(sides)) {
			if round%sides[i].every != 0 {
				continue
			}
			command := exec.CommandContext(ctx, sides[i].args[0], sides[i].args[1:]...)
			command.Env = server.Environ()
			start := time.Now()
			output, err := command.CombinedOutput()
			if err == nil && sides[i].then != nil {
				err = sides[i].then(file)
			}
			took[i] = append(took[i], time.Since(start))
			if err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", sides[i].name, err, output)
			}
			cpu[i] = append(cpu[i], command.ProcessState.UserTime()+command.ProcessState.SystemTime())
			if info, err := os.Stat(file); err != nil || info.Size() != size {
				return nil, fmt.Errorf("%s fetched something else: %v, %w", sides[i].name, info, err)
			}
			if err := errors.Join(os.Remove(file), os.RemoveAll(filepath.Join(to, transfer.Folder))); err != nil {
				return nil, err
			}
		}
	}
	var results []result
	for i, s := range sides {
		seconds := interleave.Median(took[i]).Seconds()
		results = append(results, result{
			Side: s.name, Bytes: size, FileSystem: report.FileSystem(to), Seconds: seconds, MBPerS: float64(size) / seconds / 1e6,
			Quartiles: []float64{interleave.Quantile(took[i], 0.25).Seconds(), interleave.Quantile(took[i], 0.75).Seconds()}, CPUSeconds: interleave.Median(cpu[i]).Seconds(),
		})
	}
	what := fmt.Sprintf("pull of %d MiB to %s, %.0f MB/s", size>>20, report.FileSystem(to), results[0].MBPerS)
	out.Reach(fmt.Sprintf("%s, against s5cmd, %.0f MB/s", what, results[1].MBPerS), results[1].Seconds/results[0].Seconds, leastOfS5cmd)
	out.Reach(fmt.Sprintf("%s, against aws s3 cp, %.0f MB/s", what, results[2].MBPerS), results[2].Seconds/results[0].Seconds, leastOfAWS)
	out.Tell(fmt.Sprintf("%s, against %s, %.0f MB/s", what, results[3].Side, results[3].MBPerS), results[3].Seconds/results[0].Seconds, "ratio")
	return results, nil
}

// hashAndSync does with a file that is there what a pull does while it comes: its SHA-256 is computed, by the processor's
// instructions where there are some, and it is forced to disk.
func hashAndSync(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.CopyBuffer(sha256.New(), struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
		return err
	}
	return f.Sync()
}

// store makes an object of bytes that do not repeat, as picket package push would.
func store(ctx context.Context, dir string, object transfer.Object, size int64) (err error) {
	f, err := os.CreateTemp(dir, "picket-bench-transfer-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	random, chunk := mathrand.New(mathrand.NewPCG(1, uint64(size))), make([]byte, 1<<20)
	for left := size; left > 0; left -= int64(len(chunk)) {
		for i := 0; i+8 <= len(chunk); i += 8 {
			binary.LittleEndian.PutUint64(chunk[i:], random.Uint64())
		}
		if _, err := f.Write(chunk); err != nil {
			return err
		}
	}
	_, err = transfer.Push(ctx, f, object, transfer.PushOptions{})
	return err
}
