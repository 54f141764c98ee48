package onnx

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/internal/hw"
)

// How well the backend suits a folder; see engine.Backend.
const (
	// matchModel is for a folder that holds just a model. It is below what the backend for trees gives, which reads the
	// model and leaves it where there is more in it than trees: trees have the names and the answers that they have there.
	matchModel = 40
	// matchLarge is for a model of largeBytes and more, which the backend for trees would read whole, or refuse for its size,
	// to find out that it is none.
	matchLarge = 60
	largeBytes = 512 << 20
	// matchSource is for the model beside the graph that was compiled from it, as compiled.meta says by its digest: below
	// what runs the compiled one gives, whose answers clients know.
	matchSource = 80
	// matchUnknown is for a model beside a compiled graph of which nothing says that it was made from it: not timed against
	// it, because answers that agree on some rows do not make it the same model.
	matchUnknown = engine.LastResort - 1
	// matchBroken is for a folder of several models: low, but enough to say so in Open.
	matchBroken = 1
)

// systemNames are what the loader is asked for; systemFolders are searched where it finds nothing, for names like
// libonnxruntime.so.1.32.0, because unpacking a release seldom includes ldconfig.
var (
	systemNames   = []string{"libonnxruntime.so.1", "libonnxruntime.so"}
	systemFolders = []string{"/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/opt/onnxruntime/lib", "/opt/onnxruntime/capi", "/usr/local/onnxruntime/lib"}
)

// Backend opens ONNX models. It owns the library that it opened, until Close.
type Backend struct {
	options Options
	log     *slog.Logger

	mu      sync.Mutex
	library *library
}

// New gives a backend that has opened nothing yet.
func New(options Options) *Backend {
	options.LibraryPath = cmp.Or(options.LibraryPath, os.Getenv(LibraryVariable))
	if options.GPUs == nil {
		options.GPUs = devices.New(devices.Options{})
	}
	return &Backend{options: options, log: cmp.Or(options.Log, slog.Default())}
}

// Name is "onnx".
func (*Backend) Name() string { return "onnx" }

// Probe opens the library, and leaves it at that: starting it takes several times as long.
func (b *Backend) Probe(*hw.Host) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open()
}

// Library says, for people, which library runs models: its path, version and providers, or why there is none.
func (b *Backend) Library(host *hw.Host) (path, version, providers string, err error) {
	l, err := b.start(host)
	if err != nil {
		return "", "", "", err
	}
	return l.path, l.version, l.names(), nil
}

// Close closes the library. Every model has to be closed.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.library == nil {
		return nil
	}
	err := b.library.close()
	b.library = nil
	return err
}

// open has the library opened. b.mu is held.
func (b *Backend) open() (err error) {
	if b.library == nil {
		b.library, err = b.search()
	}
	return err
}

// start gives the library, ready to load models.
func (b *Backend) start(host *hw.Host) (*library, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.open(); err != nil {
		return nil, err
	}
	if l := b.library; !l.started() {
		if err := l.start(poolSize(host)); err != nil {
			return nil, err
		}
		b.log.Info("loaded ONNX Runtime", "library", l.path, "version", l.version, "providers", l.names())
	}
	return b.library, nil
}

// poolSize is how many threads share the work of long runs: one for every whole core.
func poolSize(host *hw.Host) int { return max(1, int(host.CPU.CoresAllowed)) }

func (b *Backend) search() (*library, error) {
	if err := dl.Probe(); err != nil {
		return nil, err
	}
	if path := b.options.LibraryPath; path != "" {
		l, err := openLibrary(path)
		if err != nil {
			return nil, fmt.Errorf("the ONNX Runtime that is configured cannot be used: %w", err)
		}
		return l, nil
	}
	return search(systemNames, systemFolders)
}

// search opens what the loader finds under one of the names, else the newest file in one of the folders that is called like
// the last of them.
func search(names, folders []string) (*library, error) {
	var first error // the reason of one that is there and cannot be used helps, "install one" does not
	for _, name := range names {
		l, err := openLibrary(name)
		if err == nil {
			return l, nil
		}
		if first == nil && !strings.Contains(err.Error(), name+": cannot open shared object file") {
			first = err
		}
	}
	for _, folder := range folders {
		paths, err := filepath.Glob(filepath.Join(folder, names[len(names)-1]+"*"))
		if err != nil {
			continue // the pattern is sound
		}
		slices.SortFunc(paths, byVersion)
		for _, path := range slices.Backward(paths) {
			l, err := openLibrary(path)
			if err == nil {
				return l, nil
			}
			if first == nil {
				first = err
			}
		}
	}
	if first != nil {
		return nil, first
	}
	return nil, fmt.Errorf("there is no ONNX Runtime: the loader finds no %s, nor is one in %s; install one, or name it in the configuration as backends.onnxruntime or in %s",
		strings.Join(names, " and no "), strings.Join(folders, ", "), LibraryVariable)
}

// byVersion sorts names by the numbers in them: 1.9.0 before 1.10.0.
func byVersion(a, b string) int {
	for len(a) > 0 && len(b) > 0 {
		x, y := leadingNumber(a), leadingNumber(b)
		if x == "" || y == "" {
			if a[0] != b[0] {
				return int(a[0]) - int(b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		if c := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)); c != 0 {
			return c
		}
		a, b = a[len(x):], b[len(y):]
	}
	return len(a) - len(b)
}

func leadingNumber(s string) string {
	return s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
}

// Match wants a folder with an ONNX model.
func (*Backend) Match(a *engine.Artifact) int {
	f, err := find(a)
	switch {
	case err != nil:
		return matchBroken
	case f.name == "":
		return 0
	case f.beside:
	case slices.ContainsFunc(a.Files, func(file engine.ArtifactFile) bool { return file.Name == f.name && file.Size >= largeBytes }):
		return matchLarge
	default:
		return matchModel
	}
	metadata, err := neo.ReadMetadata(a, f.layout)
	if err != nil || metadata.SourceSHA256 == "" {
		return matchUnknown
	}
	if digest, err := a.SHA256(context.Background(), f.name); err != nil || hex.EncodeToString(digest[:]) != metadata.SourceSHA256 {
		return matchUnknown
	}
	return matchSource
}

// Open reads the model, has the library load it, and runs it on made-up rows to find out what comes out. See
// engine.Backend for the errors.
func (b *Backend) Open(ctx context.Context, a *engine.Artifact, options engine.OpenOptions) (engine.Model, error) {
	f, err := find(a)
	if err != nil {
		return nil, err
	}
	if f.name == "" {
		return nil, fmt.Errorf("%w: the folder holds no ONNX model%s", engine.ErrArtifact, a.LeftOutText())
	}
	metadata, err := neo.ReadMetadata(a, f.layout)
	if err != nil {
		return nil, err
	}
	if err := metadata.CheckSupported(); err != nil {
		return nil, err
	}
	l, err := b.start(options.Host)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrUnsupported, err)
	}
	at, auto, err := parsePlace(options.Provider)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrUnsupported, err)
	}
	if at.onGPU() && at.device != anyGPU && options.GPUs != "" {
		return nil, fmt.Errorf("%w: provider %s names a GPU, and so does gpus: leave the number out", engine.ErrInvalidInput, at)
	}
	reason := ""
	if auto {
		at, reason = choosePlace(l, options.Host, b.options.GPUs)
	} else if err := at.check(l, options.Host, b.options.GPUs); err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrHost, err)
	}
	c, err := f.read(a, options.Host.Memory.Usable())
	if err != nil {
		return nil, err
	}
	defer c.release()
	o := opening{ctx: ctx, library: l, content: c, name: f.name, options: options, place: at, metadata: metadata, beside: f.beside, memory: b.options.GPUs.Limits().Device}
	if at.onGPU() {
		m, err := o.onGPUs(b.options.GPUs)
		if err == nil || !auto || ctx.Err() != nil {
			return m, err
		}
		reason = fmt.Sprintf("provider %s cannot run it: %v", at, err)
		o.place = place{}
	}
	m, err := o.open()
	if err != nil {
		return nil, err
	}
	if reason != "" {
		m.properties.Notes = append(m.properties.Notes, engine.Note{Level: slog.LevelInfo, Text: "it runs on the processor: " + reason})
	}
	return m, nil
}
