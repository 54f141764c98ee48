package onnx

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/tensor"
)

// extension is what ONNX files are called. One that is called otherwise is found by its content.
const extension = ".onnx"

// besideName is the model that a compiled one was made from, in its folder.
const besideName = "source_model" + extension

// headBytes is how much of a file's start tells whether it is a model.
const headBytes = 256

// maxModelBytes is what the library takes in one piece: protocol buffers end there. Larger models have weights outside.
const maxModelBytes = 1<<31 - 1

// found is the model file of an artifact.
type found struct {
	name   string // empty where the folder has none
	beside bool   // beside a model that Neo compiled
	layout neo.Layout
}

// find looks for the model: beside a graph that Neo compiled, the file that it was compiled from; in a folder without a
// compiled model, whatever is one by its content, of several those with the name of one. Two are an error that wraps
// engine.ErrArtifact. Compiled tree models have their own backends, whose answers have other names.
func find(a *engine.Artifact) (found, error) {
	layout, err := neo.ReadLayout(a.Files)
	f := found{layout: layout}
	switch layout.Kind {
	case neo.TVM, neo.RelayVM:
		if err == nil && isModel(a, besideName) {
			f.name, f.beside = besideName, true
		}
		return f, nil // what is ambiguous for its own runtime, that backend says
	case neo.None:
	default:
		return f, nil
	}
	var models []string
	named, metadata := 0, 0
	for _, file := range a.Files {
		if path.Ext(file.Name) == ".meta" {
			metadata++
		}
		if !isModel(a, file.Name) {
			continue
		}
		if strings.HasSuffix(file.Name, extension) {
			named++
		}
		models = append(models, file.Name)
	}
	for _, name := range models {
		if named > 0 && !strings.HasSuffix(name, extension) {
			continue // weights may start like a model by chance
		}
		if f.name != "" {
			return found{}, fmt.Errorf("%w: the folder holds more than one model file, %s and %s; leave only one", engine.ErrArtifact, f.name, name)
		}
		f.name = name
	}
	if f.name != "" && metadata > 1 { // of the layout's other ambiguities none matters here
		return found{}, err
	}
	return f, nil
}

// isModel tells whether a file of the artifact starts like an ONNX model.
func isModel(a *engine.Artifact, name string) bool {
	if !a.Has(name) {
		return false
	}
	f, err := a.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, headBytes)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false
	}
	format, err := ensemble.Recognise(head[:n])
	return err == nil && format == "onnx"
}

// content is a model in memory: its file, and those of its weights outside. It owns the Buffers.
type content struct {
	facts   facts
	data    *tensor.Buffer
	weights []weights
	bytes   int64 // of all of them
}

func (c *content) release() {
	c.data.Release()
	for _, w := range c.weights {
		w.buffer.Release()
	}
}

// read reads the model, and of the files beside it those that it names. memory is how many bytes the process may use, 0 for
// unknown. The caller releases the content.
func (f found) read(a *engine.Artifact, memory uint64) (c *content, err error) {
	c = &content{}
	defer func() {
		if err != nil {
			c.release()
			c = nil
		}
	}()
	if c.data, err = readFile(a, f.name, maxModelBytes, memory); err != nil {
		return c, err
	}
	c.bytes = int64(c.data.Len())
	if c.facts, err = examine(c.data.Bytes()); err != nil {
		kind := engine.ErrArtifact
		if errors.Is(err, errUnsupported) {
			kind = engine.ErrUnsupported
		}
		return c, fmt.Errorf("%w: %s: %w", kind, f.name, err)
	}
	sizes := map[string]int64{}
	for _, name := range c.facts.files() {
		// Files of an artifact lie at its top, so that a name with a folder or a way out of it is none of them.
		if !a.Has(name) {
			return c, fmt.Errorf("%w: %s has weights in the file %q, which is not beside it%s", engine.ErrArtifact, f.name, name, a.LeftOutText())
		}
		b, err := readFile(a, name, maxWeightBytes, memory)
		if err != nil {
			return c, err
		}
		c.weights = append(c.weights, weights{name: name, buffer: b})
		sizes[name] = int64(b.Len())
		c.bytes += sizes[name]
	}
	if err = c.facts.checkExternal(sizes); err != nil {
		return c, fmt.Errorf("%w: %s: %w", engine.ErrArtifact, f.name, err)
	}
	return c, nil
}

// maxWeightBytes bounds one file of weights; what the host's memory holds is the limit that is met.
const maxWeightBytes = 1 << 38

// readFile reads a file of the artifact into memory that the library may look at: a mapping would end the process when
// somebody cuts the file short.
func readFile(a *engine.Artifact, name string, limit int64, memory uint64) (*tensor.Buffer, error) {
	f, err := a.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", engine.ErrArtifact, name, err)
	}
	size := info.Size()
	switch {
	case size == 0:
		return nil, fmt.Errorf("%w: the file %s is empty", engine.ErrArtifact, name)
	case size > limit:
		return nil, fmt.Errorf("%w: %s has %d bytes, more than the %d that are read", engine.ErrArtifact, name, size, limit)
	case memory > 0 && uint64(size) > memory/2: // the library copies what it is given
		return nil, fmt.Errorf("%w: %s takes %d MiB, twice while it is loaded; the process may use %d MiB in all", engine.ErrMemory, name, size>>20, memory>>20)
	}
	b, err := tensor.Alloc(int(size))
	if err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", engine.ErrMemory, name, err)
	}
	if _, err := io.ReadFull(f, b.Bytes()); err != nil {
		b.Release()
		return nil, fmt.Errorf("%w: reading %s: %w", engine.ErrArtifact, name, err)
	}
	return b, nil
}
