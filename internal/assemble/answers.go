package assemble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

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

// Answers are what running a model told.
type Answers struct {
	Signature *packaging.Signature
	// Warmup is the warm-up file, of that many rows.
	Warmup []byte
	Rows   int
	// Ran and Left are the variants that were run and those that this host cannot run, with the reason.
	Ran, Left []string

	tensors *engine.Signature // Signature, as the engine has it
}

// ErrCannotRun says that the host can run none of the variants.
var ErrCannotRun = errors.New("this host can run none of the variants, so it cannot tell what they answer")

// Ask runs the variants on this host: the first that it can run gives the answers that the package will expect, and the
// others have to agree. The rows are those of the file at input, or such as are typical for the model where that is empty.
// Where the host can run no variant the error is ErrCannotRun, and Left says why.
func Ask(ctx context.Context, host *hw.Host, variants []packaging.BuildVariant, input string) (_ *Answers, err error) {
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
	defer func() { err = errors.Join(err, e.Close(context.WithoutCancel(ctx)), backends.Close(source.backends)) }()
	out := &Answers{}
	for _, v := range variants {
		if _, why := store.Choose(&packaging.Manifest{Variants: []packaging.Variant{{Name: v.Name, Requires: v.Requires}}}, host); !why[0].Chosen {
			out.Left = append(out.Left, v.Name+" ("+why[0].Reason+")")
			continue
		}
		if err := out.run(ctx, e, source, v, input); err != nil {
			return nil, fmt.Errorf("running variant %s: %w", v.Name, err)
		}
		out.Ran = append(out.Ran, v.Name)
	}
	if len(out.Ran) == 0 {
		return out, ErrCannotRun
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
func (o *Answers) run(ctx context.Context, e *engine.Engine, source *provenSource, v packaging.BuildVariant, input string) error {
	if source.proven == nil {
		names, missing, err := source.byMatch(ctx, e, v.Dir)
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
			return fmt.Errorf("%w%s", err, missing)
		}
		source.proven = &engine.Package{Signature: o.tensors, Warmup: &engine.Warmup{Rows: o.Rows, Data: o.Warmup}}
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
// gives the answers, so that the same folder always gives the same. missing ends a message with the backends that suit it and
// do not work here.
func (s *provenSource) byMatch(ctx context.Context, e *engine.Engine, dir string) (names []string, missing string, err error) {
	a, err := s.files.Open(ctx, dir)
	if err != nil {
		return nil, "", err
	}
	defer a.Close()
	match := map[string]int{}
	for i, status := range e.Backends() {
		switch n := s.backends[i].Match(a); {
		case n > 0 && status.OK:
			names = append(names, status.Name)
			match[status.Name] = n
		case n > 0:
			missing += fmt.Sprintf("; backend %s, which might run it, does not work here: %s", status.Name, status.Reason)
		}
	}
	slices.SortStableFunc(names, func(x, y string) int { return match[y] - match[x] })
	return names, missing, nil
}

// answer runs the rows.
func (o *Answers) answer(ctx context.Context, model *engine.Snapshot, input string) error {
	signature := model.Signature()
	o.tensors = &engine.Signature{Inputs: signature.Inputs, Outputs: signature.Outputs}
	o.Signature = &packaging.Signature{Inputs: tensorsOf(signature.Inputs), Outputs: tensorsOf(signature.Outputs)}
	given, n, err := readWarmupRows(input, signature)
	if err != nil {
		return err
	}
	o.Rows = n
	if given == nil {
		o.Rows = 1
		for n := warmupRows; n > 1 && signature.Batchable(); n-- {
			if o.Signature.WarmupBytes(n) >= 0 {
				o.Rows = n
				break
			}
		}
	}
	size := o.Signature.WarmupBytes(o.Rows)
	if o.Rows > packaging.MaxWarmupRows || size < 0 {
		return fmt.Errorf("%d warm-up rows are more than a package takes, which is %d rows and %d MiB with their answers; give fewer", o.Rows, packaging.MaxWarmupRows, packaging.MaxWarmupBytes>>20)
	}
	r, err := model.NewRequest(o.Rows)
	if err != nil {
		return err
	}
	defer r.Release()
	if given == nil {
		model.Sample(r.Inputs, o.Rows)
	}
	for i := range r.Inputs {
		if given != nil {
			copy(r.Inputs[i].Bytes(), given[i])
		}
		o.Warmup = append(o.Warmup, r.Inputs[i].Bytes()...)
	}
	if err := r.Predict(ctx); err != nil {
		return err
	}
	for i := range r.Outputs {
		o.Warmup = append(o.Warmup, r.Outputs[i].Bytes()...)
	}
	if int64(len(o.Warmup)) != size {
		return fmt.Errorf("the rows take %d bytes and not %d", len(o.Warmup), size)
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
	inputs := make([]rows.Input, len(signature.Inputs))
	data = make([][]byte, len(inputs))
	for i, in := range signature.Inputs {
		bytes := tensorOf(in).Bytes(1)
		if bytes < 0 {
			return nil, 0, fmt.Errorf("input %q has the shape %v, of which no row can be written as text", in.Name, in.Dims)
		}
		inputs[i] = rows.Input{Name: in.Name, DType: in.DType, Elements: int(bytes) / in.DType.Size()}
	}
	reader, err := rows.NewReader(f, inputs)
	if err != nil {
		return nil, 0, err
	}
	for ; n <= packaging.MaxWarmupRows; n++ {
		if err := reader.Read(data); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, 0, fmt.Errorf("reading the warm-up rows: %w", err)
		}
	}
	if n == 0 {
		return nil, 0, fmt.Errorf("reading the warm-up rows: %s has none", path)
	}
	return data, n, nil
}

func tensorOf(s engine.TensorSpec) packaging.Tensor {
	return packaging.Tensor{Name: s.Name, DType: s.DType.String(), Shape: append([]int64{}, s.Dims...)}
}

func tensorsOf(specs []engine.TensorSpec) []packaging.Tensor {
	list := make([]packaging.Tensor, len(specs))
	for i, s := range specs {
		list[i] = tensorOf(s)
	}
	return list
}
