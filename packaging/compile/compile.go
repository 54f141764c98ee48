package compile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/picket-ml/picket/internal/ensemble"
)

// Run compiles the model o.Source into the artifact folder o.Out. It either makes the whole folder or leaves o.Out as
// it was. Cancelling ctx stops the compilers.
func Run(ctx context.Context, o Options) (Result, error) {
	r, err := run(ctx, o)
	if err != nil {
		return Result{}, fmt.Errorf("compiling %s: %w", filepath.Base(o.Source), err)
	}
	return r, nil
}

func run(ctx context.Context, o Options) (r Result, err error) {
	if o.Engine.Sources == nil {
		o.Engine = Branches()
	}
	t, err := findTarget(o.Target, runtime.GOARCH)
	if err != nil {
		return r, err
	}
	command, err := findCompiler(t, o.CC, runtime.GOARCH)
	if err != nil {
		return r, err
	}
	e, data, err := readModel(o.Source, o.Limits)
	if err != nil {
		return r, err
	}
	files, err := o.Engine.files(e, t.arch)
	if err != nil {
		return r, err
	}
	out, err := newFolder(o.Out, o.Force)
	if err != nil {
		return r, err
	}
	defer out.discard()
	dir, err := os.MkdirTemp("", "picket-compile-*")
	if err != nil {
		return r, fmt.Errorf("making a folder to compile in: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // what stays behind is litter, not a failure

	cc := &toolchain{command: command, target: t, dir: dir}
	version, err := cc.version(ctx)
	if err != nil {
		return r, err
	}
	library, err := build(ctx, cc, files, o)
	if err != nil {
		return r, err
	}
	digest, source := digestOf(data), sourceName(e.Format)
	meta, err := metadata(e, o.Engine.Name, t, version, source, digest, digestOf(library))
	if err != nil {
		return r, err
	}
	if err := errors.Join(out.write(libraryName, library), out.write(metaName, meta), out.write(source, data)); err != nil {
		return r, err
	}
	if err := os.Chmod(filepath.Join(out.staging, libraryName), 0o755); err != nil {
		return r, fmt.Errorf("writing the artifact: %w", err)
	}
	if err := out.commit(); err != nil {
		return r, err
	}
	return Result{
		Dir: o.Out, Library: e.Library.String(), Engine: o.Engine.Name, Target: t.name, Compiler: version, SHA256: digest,
		Features: e.NumFeature, Outputs: e.Outputs(), Trees: len(e.Trees), Nodes: e.Nodes(), Bytes: int64(len(library)),
	}, nil
}

// digestOf is the SHA-256 of data in hexadecimal.
func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// readModel reads the model file once, so that what is compiled and what is copied are the same bytes.
func readModel(path string, l ensemble.Limits) (*ensemble.Ensemble, []byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the model: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("opening the model: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("the model is no regular file; name the model file itself")
	}
	limit := l.Bytes
	if limit == 0 {
		limit = 1 << 30
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1)) // one byte too many, for Parse to refuse
	if err != nil {
		return nil, nil, fmt.Errorf("reading the model: %w", err)
	}
	e, err := ensemble.Parse(data, l)
	return e, data, err
}

// build writes the files to the folder of cc, compiles them, as many at once as o allows, and links them.
func build(ctx context.Context, cc *toolchain, files []file, o Options) ([]byte, error) {
	var objects []string
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(cc.dir, f.name), f.content, 0o600); err != nil {
			return nil, fmt.Errorf("writing the C source: %w", err)
		}
		if object := f.object(); object != "" {
			objects = append(objects, object)
		}
	}
	total := len(objects) + 1
	var mu sync.Mutex // guards done, and keeps calls of Progress apart
	done := 0
	step := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		done++
		if o.Progress != nil {
			o.Progress(done, total, what)
		}
	}
	jobs := o.Jobs
	if jobs <= 0 {
		jobs = runtime.GOMAXPROCS(0)
	}
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(jobs)
	for _, f := range files {
		object := f.object()
		if object == "" {
			continue
		}
		group.Go(func() error {
			if err := running.Err(); err != nil {
				return err
			}
			if err := cc.compile(running, f.name, object, f.flags); err != nil {
				return err
			}
			step("compiled " + f.name)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := cc.link(ctx, libraryName, objects); err != nil {
		return nil, err
	}
	path := filepath.Join(cc.dir, libraryName)
	if err := cc.target.check(path); err != nil {
		return nil, err
	}
	library, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading what the compiler made: %w", err)
	}
	step("linked " + libraryName)
	return library, nil
}
