package onnx

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/picket-ml/picket/internal/onnxwire"
)

// Numbers of the fields of ONNX's messages that the walk looks at; all others are skipped.
const (
	modelIR, modelProducer, modelProducerVersion, modelVersion, modelGraph = 1, 2, 3, 5, 7
	modelTraining, modelFunction                                           = 20, 25
	graphNode, graphInitializer, graphInput, graphSparse                   = 1, 5, 11, 15
	valueType, typeTensor, tensorShape, shapeDimension, dimensionNumber    = 2, 1, 2, 1, 1
	nodeOperator, nodeAttribute                                            = 4, 5
	attributeTensor, attributeGraph, attributeTensors, attributeGraphs     = 5, 6, 10, 11
	attributeSparse, attributeSparses                                      = 22, 23
	sparseValues, sparseIndices                                            = 1, 2
	tensorName, tensorExternal, tensorWhere                                = 8, 13, 14
	entryKey, entryValue                                                   = 1, 2
	functionNode, functionAttribute                                        = 7, 11
	trainingInitialization, trainingAlgorithm                              = 1, 2
)

const (
	// compiledOperator stands for a part of a graph that was compiled for one accelerator, perhaps in another file.
	compiledOperator = "EPContext"
	// maxDepth bounds graphs within graphs, which are the branches of conditions and the bodies of loops.
	maxDepth = 32
	// maxExternalTensors is far above what the largest models have.
	maxExternalTensors = 1 << 16
)

// errUnsupported marks what a sound model asks for and does not get.
var errUnsupported = errors.New("not supported")

// facts are what the walk finds in a model.
type facts struct {
	ir, version int64
	producer    string
	// external are the weights outside the file.
	external []external
	// open tells that a dimension of an input of the main graph is left open, shapeless that an input has no shape at all, which
	// the library does not tell from a single number.
	open, shapeless bool
	// operators is how many operators there are, those of subgraphs and functions included.
	operators int
}

// external is one list of weights outside the model's file.
type external struct {
	tensor, file   string
	offset, length int64 // length is -1 where the model does not say it
}

// walk is one walk over a model.
type walk struct {
	facts
	graphs int
}

// examine walks a model's file from end to end and tells what the library will be asked to load. It fails where the file is
// no model, or asks for what the library would get from elsewhere. It takes time and memory in proportion to the file, whose
// messages it does not copy.
func examine(data []byte) (facts, error) {
	w := &walk{}
	producer, version := "", ""
	err := onnxwire.Fields(data, func(f onnxwire.Field) (err error) {
		switch f.Number {
		case modelIR:
			w.ir, err = f.Integer()
		case modelVersion:
			w.version, err = f.Integer()
		case modelProducer:
			producer, err = f.Text()
		case modelProducerVersion:
			version, err = f.Text()
		case modelGraph:
			w.graphs++
			err = f.Each(func(b []byte) error { return w.graph(b, 0, true) })
		case modelFunction:
			err = f.Each(func(b []byte) error { return w.function(b) })
		case modelTraining:
			err = f.Each(func(b []byte) error { return w.training(b) })
		}
		return err
	})
	switch {
	case err != nil:
		return facts{}, err
	case w.graphs != 1:
		return facts{}, fmt.Errorf("it holds %d graphs where a model has one: the file is cut short or damaged", w.graphs)
	case w.ir < 1:
		return facts{}, errors.New("it does not tell its version of the format: the file is cut short or damaged")
	case w.operators == 0:
		return facts{}, errors.New("it holds no operator at all")
	}
	w.producer = producer
	if version != "" {
		w.producer += " " + version
	}
	return w.facts, nil
}

// graph walks a graph. Only the main one may have its weights outside.
func (w *walk) graph(b []byte, depth int, main bool) error {
	if depth > maxDepth {
		return fmt.Errorf("its graphs are nested deeper than %d", maxDepth)
	}
	return onnxwire.Fields(b, func(f onnxwire.Field) error {
		switch f.Number {
		case graphNode:
			return f.Each(func(b []byte) error { return w.node(b, depth) })
		case graphInitializer:
			return f.Each(func(b []byte) error { return w.tensor(b, main) })
		case graphSparse:
			return f.Each(func(b []byte) error { return w.sparse(b) })
		case graphInput:
			if main {
				return f.Each(w.input)
			}
		}
		return nil
	})
}

// input looks at the shape of an input.
func (w *walk) input(b []byte) error {
	shaped := false
	within := func(number protowire.Number, visit func([]byte) error) func([]byte) error {
		return func(b []byte) error {
			return onnxwire.Fields(b, func(f onnxwire.Field) error {
				if f.Number != number {
					return nil
				}
				return f.Each(visit)
			})
		}
	}
	dimension := func(b []byte) error {
		given := false
		err := onnxwire.Fields(b, func(f onnxwire.Field) error {
			given = given || f.Number == dimensionNumber
			return nil
		})
		w.open = w.open || !given
		return err
	}
	shape := func(b []byte) error {
		shaped = true
		return within(shapeDimension, dimension)(b)
	}
	err := within(valueType, within(typeTensor, within(tensorShape, shape)))(b)
	w.shapeless = w.shapeless || !shaped
	return err
}

func (w *walk) node(b []byte, depth int) error {
	w.operators++
	return onnxwire.Fields(b, func(f onnxwire.Field) error {
		switch f.Number {
		case nodeOperator:
			name, err := f.Text()
			if err == nil && name == compiledOperator {
				err = fmt.Errorf("%w: it was compiled for one accelerator (operator %s), by code that only that one has", errUnsupported, compiledOperator)
			}
			return err
		case nodeAttribute:
			return f.Each(func(b []byte) error { return w.attribute(b, depth) })
		}
		return nil
	})
}

func (w *walk) attribute(b []byte, depth int) error {
	return onnxwire.Fields(b, func(f onnxwire.Field) error {
		switch f.Number {
		case attributeTensor, attributeTensors:
			return f.Each(func(b []byte) error { return w.tensor(b, false) })
		case attributeGraph, attributeGraphs:
			return f.Each(func(b []byte) error { return w.graph(b, depth+1, false) })
		case attributeSparse, attributeSparses:
			return f.Each(func(b []byte) error { return w.sparse(b) })
		}
		return nil
	})
}

func (w *walk) sparse(b []byte) error {
	return onnxwire.Fields(b, func(f onnxwire.Field) error {
		if f.Number == sparseValues || f.Number == sparseIndices {
			return f.Each(func(b []byte) error { return w.tensor(b, false) })
		}
		return nil
	})
}

func (w *walk) function(b []byte) error {
	return onnxwire.Fields(b, func(f onnxwire.Field) error {
		switch f.Number {
		case functionNode:
			return f.Each(func(b []byte) error { return w.node(b, 1) })
		case functionAttribute:
			return f.Each(func(b []byte) error { return w.attribute(b, 1) })
		}
		return nil
	})
}

func (w *walk) training(b []byte) error {
	return onnxwire.Fields(b, func(f onnxwire.Field) error {
		if f.Number == trainingInitialization || f.Number == trainingAlgorithm {
			return f.Each(func(b []byte) error { return w.graph(b, 1, false) })
		}
		return nil
	})
}

// tensor notes where a tensor's numbers are. mayLeave tells that they may be outside: of others, any sign of it is refused,
// because the library would open the file itself, from wherever it is started.
func (w *walk) tensor(b []byte, mayLeave bool) error {
	e := external{length: -1}
	outside, where := false, false
	keys := map[string]bool{}
	err := onnxwire.Fields(b, func(f onnxwire.Field) (err error) {
		switch f.Number {
		case tensorName:
			e.tensor, err = f.Text()
		case tensorWhere:
			var place int64
			place, err = f.Integer()
			where = true
			outside = outside || place != 0
		case tensorExternal:
			outside = true
			err = f.Each(func(b []byte) error { return e.entry(b, keys) })
		}
		return err
	})
	switch {
	case err != nil || !outside:
		return err
	case !mayLeave:
		return fmt.Errorf("%w: a tensor that is no weight of its main graph has its numbers in another file; only weights of the main graph may", errUnsupported)
	case !where || e.file == "":
		return fmt.Errorf("tensor %q lies in another file, and the model does not say in which", e.tensor)
	case len(w.external) >= maxExternalTensors:
		return fmt.Errorf("more than %d tensors lie in other files", maxExternalTensors)
	}
	w.external = append(w.external, e)
	return nil
}

// entry reads one key and value of where a tensor lies.
func (e *external) entry(b []byte, seen map[string]bool) error {
	var key, value string
	err := onnxwire.Fields(b, func(f onnxwire.Field) (err error) {
		switch f.Number {
		case entryKey:
			key, err = f.Text()
		case entryValue:
			value, err = f.Text()
		}
		return err
	})
	if err != nil {
		return err
	}
	if seen[key] {
		return fmt.Errorf("tensor %q lies in two places: %s is given twice", e.tensor, strconv.Quote(key))
	}
	seen[key] = true
	switch key {
	case "location":
		e.file = value
	case "offset":
		e.offset, err = parseSize(key, value)
	case "length":
		e.length, err = parseSize(key, value)
	}
	return err
}

func parseSize(key, value string) (int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("the %s of a tensor in another file is %q, which is no size", key, value)
	}
	return n, nil
}

// files are the names of the other files, each once, in order.
func (f *facts) files() []string {
	var names []string
	for _, e := range f.external {
		names = append(names, e.file)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// checkExternal makes sure that every tensor lies within its file, and that they do not ask for more memory together than
// the files have: the same bytes a thousand times over would be cheap to send and dear to load.
func (f *facts) checkExternal(sizes map[string]int64) error {
	var all, asked int64
	for _, n := range sizes {
		all += n
	}
	for _, e := range f.external {
		size := sizes[e.file]
		length := e.length
		if length < 0 {
			length = max(0, size-e.offset)
		}
		if e.offset > size || length > size-e.offset {
			return fmt.Errorf("tensor %q lies at %d in %s and takes %d bytes, but the file has %d", e.tensor, e.offset, e.file, length, size)
		}
		if asked > math.MaxInt64-length {
			return errors.New("its weights are more than fit 64 bits")
		}
		asked += length
	}
	if asked > all {
		return fmt.Errorf("its weights outside take %d bytes, the files have %d: tensors lie over each other", asked, all)
	}
	return nil
}
