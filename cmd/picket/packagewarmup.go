package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/picket-ml/picket/backends"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/rows"
	"github.com/picket-ml/picket/internal/store"
	"github.com/picket-ml/picket/packaging"
)

// warmupRows is how many rows a package gets that nobody has chosen rows for: enough to reach many leaves, few enough that
// nobody minds them.
const warmupRows = 16

// answered is what running a model told.
type answered struct {
	signature *packaging.Signature
	tensors   *engine.Signature // the same, as the engine has it
	warmup    []byte
	rows      int
	// ran and left are the variants that were run and those that this host cannot run, with the reason.
	ran, left []string
}

// answers runs the variants on this host: the first that it can run gives the answers that the package will expect, and the
// others have to agree. The rows are those of the file at input, or such as are typical for the model.
func answers(ctx context.Context, variants []packaging.BuildVariant, input string) (*answered, error) {
	host, err := hostOf(ctx)
	if err != nil {
		return nil, err
	}
	files, err := store.New(store.Options{Unsigned: true})
	if err != nil {
		return nil, err
	}
	defer files.Close()
	source := &provenSource{files: files, backends: backends.All(backends.Options{})}
	e, err := engine.New(engine.Options{Host: host, Backends: source.backends, Source: source})
	if err != nil {
		return nil, err
	}
	defer func() { _ = e.Close(context.WithoutCancel(ctx)) }() // nothing is under way
	out := &answered{}
	for _, v := range variants {
		if _, why := store.Choose(&packaging.Manifest{Variants: []packaging.Variant{{Name: v.Name, Requires: v.Requires}}}, host); !why[0].Chosen {
			out.left = append(out.left, v.Name+" ("+why[0].Reason+")")
			continue
		}
		if err := out.run(ctx, e, source, v, input); err != nil {
			return nil, fmt.Errorf("running variant %s: %w", v.Name, err)
		}
		out.ran = append(out.ran, v.Name)
	}
	if len(out.ran) == 0 {
		return nil, fmt.Errorf("this host can run none of the variants, so it cannot tell what they answer: %s; build the package on a host that can, or give --no-warmup", strings.Join(out.left, "; "))
	}
	return out, nil
}

// provenSource opens folders, and says of each what the first one answered.
type provenSource struct {
	files    *store.Store
	backends []engine.Backend
	proven   *engine.Package
}

// Open implements engine.Source.
func (s *provenSource) Open(ctx context.Context, url string) (*engine.Artifact, error) {
	a, err := s.files.Open(ctx, url)
	if err == nil {
		a.Package = s.proven
	}
	return a, err
}

// run has the variant answer, if none did before, and then loads it as a host would, which compares what it answers with
// the answers there are, by whichever backend is the fastest here.
func (o *answered) run(ctx context.Context, e *engine.Engine, source *provenSource, v packaging.BuildVariant, input string) error {
	if source.proven == nil {
		names, err := source.byMatch(ctx, e, v.Dir)
		if err != nil {
			return err
		}
		err = errors.New("no backend that works on this host can run it")
		for _, name := range names {
			err = withModel(ctx, e, v.Dir, name, func(model *engine.Snapshot) error { return o.answer(ctx, model, input) })
			if !errors.Is(err, engine.ErrUnsupported) {
				break
			}
		}
		if err != nil {
			return err
		}
		source.proven = &engine.Package{Signature: o.tensors, Warmup: &engine.Warmup{Rows: o.rows, Data: o.warmup}}
	}
	return withModel(ctx, e, v.Dir, "", func(*engine.Snapshot) error { return nil })
}

// withModel loads the folder, with that backend if one is named, and unloads it again.
func withModel(ctx context.Context, e *engine.Engine, dir, backend string, do func(*engine.Snapshot) error) error {
	const name = "model"
	if _, err := e.Load(ctx, name, dir, engine.ModelOptions{Instances: 1, Backend: backend}); err != nil {
		if cause := errors.Unwrap(err); cause != nil {
			return cause // without the name, which is of no interest
		}
		return err
	}
	defer func() { _ = e.Unload(context.WithoutCancel(ctx), name) }() // it is there
	model, err := e.Acquire(name)
	if err != nil {
		return err
	}
	defer model.Release()
	return do(model)
}

// byMatch are the backends by how well they suit the folder, whichever is the fastest today: the first that supports it
// gives the answers, so that the same folder always gives the same.
func (s *provenSource) byMatch(ctx context.Context, e *engine.Engine, dir string) ([]string, error) {
	a, err := s.files.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	var names []string
	match := map[string]int{}
	for i, status := range e.Backends() {
		if n := s.backends[i].Match(a); n > 0 && status.OK {
			names = append(names, status.Name)
			match[status.Name] = n
		}
	}
	slices.SortStableFunc(names, func(x, y string) int { return match[y] - match[x] })
	return names, nil
}

// answer runs the rows.
func (o *answered) answer(ctx context.Context, model *engine.Snapshot, input string) error {
	signature := model.Signature()
	o.tensors = &engine.Signature{Inputs: signature.Inputs, Outputs: signature.Outputs}
	o.signature = &packaging.Signature{Inputs: tensorsOf(signature.Inputs), Outputs: tensorsOf(signature.Outputs)}
	given, n, err := readWarmupRows(input, signature)
	if err != nil {
		return err
	}
	o.rows = n
	if given == nil {
		o.rows = 1
		for n := warmupRows; n > 1 && signature.Batchable(); n-- {
			if o.signature.WarmupBytes(n) >= 0 {
				o.rows = n
				break
			}
		}
	}
	size := o.signature.WarmupBytes(o.rows)
	if o.rows > packaging.MaxWarmupRows || size < 0 {
		return fmt.Errorf("%d warm-up rows are more than a package takes, which is %d rows and %d MiB with their answers; give fewer with --rows", o.rows, packaging.MaxWarmupRows, packaging.MaxWarmupBytes>>20)
	}
	r, err := model.NewRequest(o.rows)
	if err != nil {
		return err
	}
	defer r.Release()
	if given == nil {
		model.Sample(r.Inputs, o.rows)
	}
	for i := range r.Inputs {
		if given != nil {
			copy(r.Inputs[i].Bytes(), given[i])
		}
		o.warmup = append(o.warmup, r.Inputs[i].Bytes()...)
	}
	if err := r.Predict(ctx); err != nil {
		return err
	}
	for i := range r.Outputs {
		o.warmup = append(o.warmup, r.Outputs[i].Bytes()...)
	}
	if int64(len(o.warmup)) != size {
		return fmt.Errorf("the rows take %d bytes and not %d", len(o.warmup), size)
	}
	return nil
}

// readWarmupRows reads all rows of a file, nil where none is named.
func readWarmupRows(path string, signature *engine.Signature) (data [][]byte, n int, err error) {
	if path == "" {
		return nil, 0, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("opening the warm-up rows: %w", err)
	}
	defer f.Close()
	inputs := make([]shaped, len(signature.Inputs))
	for i, s := range signature.Inputs {
		inputs[i] = shaped{name: s.Name, dtype: s.DType, shape: s.Dims}
	}
	b, err := newBatch(inputs, packaging.MaxWarmupRows+1)
	if err != nil {
		return nil, 0, err
	}
	reader, err := rows.NewReader(f, b.inputs)
	if err != nil {
		return nil, 0, err
	}
	if err := b.fill(reader); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, fmt.Errorf("reading the warm-up rows: %w", err)
	}
	if b.rows == 0 {
		return nil, 0, fmt.Errorf("reading the warm-up rows: %s has none", path)
	}
	return b.data, b.rows, nil
}

func tensorsOf(specs []engine.TensorSpec) []packaging.Tensor {
	list := make([]packaging.Tensor, len(specs))
	for i, s := range specs {
		list[i] = packaging.Tensor{Name: s.Name, DType: s.DType.String(), Shape: append([]int64{}, s.Dims...)}
	}
	return list
}

// hostOf is the host without asking anybody over a network.
func hostOf(ctx context.Context) (*hw.Host, error) {
	options, err := hw.OptionsFromEnv(os.Getenv)
	if err != nil {
		return nil, fmt.Errorf("reading the environment: %w", err)
	}
	if self, err := os.Executable(); err == nil {
		options.GPUCommand = []string{self, gpuReportCommand}
	}
	return hw.Detect(ctx, options), nil
}
