package ensemble

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/picket-ml/picket/internal/onnxwire"
)

// Numbers of fields in ONNX's messages, and of its element types. Only what trees need.
const (
	onnxModelProducer, onnxModelProducerVersion, onnxModelGraph, onnxModelOpset = 2, 3, 7, 8
	onnxOpsetDomain                                                             = 1
	onnxGraphNode, onnxGraphInput, onnxGraphOutput                              = 1, 11, 12
	onnxNodeInput, onnxNodeOutput, onnxNodeOperator, onnxNodeAttribute          = 1, 2, 4, 5
	onnxNodeDomain                                                              = 7
	onnxValueName, onnxValueType                                                = 1, 2
	onnxTypeTensor, onnxTensorElement, onnxTensorShape                          = 1, 1, 2
	onnxShapeDimension, onnxDimensionValue                                      = 1, 1

	onnxFloat, onnxDouble = 1, 11

	// onnxMaxParts bounds operators, inputs, outputs and attributes. Converted tree models have fewer than ten.
	onnxMaxParts = 256
)

// onnxRole is what a name of the graph stands for.
type onnxRole uint8

const (
	onnxOther   onnxRole = iota // constants, labels and what comes of them: not served
	onnxRows                    // the input, perhaps converted between float32 and float64
	onnxScores                  // the scores of the trees
	onnxRowsF64                 // onnxRows as float64
)

// onnxValue is an input of the graph.
type onnxValue struct {
	name    string
	element uint64
	dims    []int64 // 0 where the file gives no number
}

// onnxNode is one operator of the graph.
type onnxNode struct {
	operator, domain string
	inputs, outputs  []string
	attributes       [][]byte
}

// onnxModel is an ONNX file as far as trees need it.
type onnxModel struct {
	limits   Limits
	size     int
	producer string
	version  string
	domains  map[string]bool
	nodes    []onnxNode
	inputs   []onnxValue
	outputs  []string
}

// isONNX recognises how writers of ONNX start a file: the version of the format, then another of the model's fields.
func isONNX(head []byte) bool {
	if len(head) < 3 || head[0] != 0x08 || head[1] == 0 || head[1] > 64 {
		return false
	}
	switch head[2] {
	case 0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42, 0x72:
		return true
	}
	return false
}

// readONNX reads an ONNX file whose one model is a TreeEnsembleClassifier or TreeEnsembleRegressor of ai.onnx.ml, as
// converters of scikit-learn, XGBoost and LightGBM write it. The arithmetic is ONNX Runtime's with one thread: leaf
// values are added in the order of the file, then the base value.
func readONNX(data []byte, l Limits) (*Ensemble, error) {
	m := &onnxModel{limits: l, size: len(data), domains: map[string]bool{}}
	if err := m.model(data); err != nil {
		return nil, err
	}
	if len(m.domains) == 0 {
		return nil, errors.New("it imports no operator set: the file is cut short or damaged")
	}
	for i := range m.nodes {
		if d := m.nodes[i].domain; !m.domains[d] {
			return nil, fmt.Errorf("it imports no operators of domain %s, but uses %s: the file is cut short or damaged", quote(d), quote(m.nodes[i].operator))
		}
	}
	trees, rows, double, err := m.walk()
	if err != nil {
		return nil, err
	}
	e := &Ensemble{Library: ONNX, Format: "onnx", Booster: trees.operator, Double: double, ParallelTrees: 1, Targets: 1, BaseLast: !double}
	e.Version = strings.TrimSpace(m.producer + " " + m.version)
	e.NumFeature = -1
	if n := len(rows.dims); n != 0 && n != 2 {
		return nil, unsupported("its input has %d dimensions; two are supported, rows and features", n)
	}
	if len(rows.dims) == 2 && rows.dims[1] > 0 {
		if rows.dims[1] > int64(l.Features) {
			return nil, fmt.Errorf("its input has %d features, more than the limit of %d", rows.dims[1], l.Features)
		}
		e.NumFeature = int(rows.dims[1])
	}
	a, err := onnxTreeAttributes(trees.attributes, double, l)
	if err != nil {
		return nil, fmt.Errorf("operator %s: %w", trees.operator, err)
	}
	if err := a.fill(e, m); err != nil {
		return nil, fmt.Errorf("operator %s: %w", trees.operator, err)
	}
	return e, nil
}

func (m *onnxModel) model(b []byte) error {
	graphs := 0
	return onnxwire.Fields(b, func(f onnxwire.Field) (err error) {
		var part []byte
		switch f.Number {
		case onnxModelProducer:
			m.producer, err = f.Text()
		case onnxModelProducerVersion:
			m.version, err = f.Text()
		case onnxModelOpset:
			if part, err = f.Message(); err != nil {
				return err
			}
			domain := ""
			err = onnxwire.Fields(part, func(f onnxwire.Field) (err error) {
				if f.Number == onnxOpsetDomain {
					domain, err = f.Text()
				}
				return err
			})
			if len(m.domains) >= onnxMaxParts {
				return errors.New("it imports too many operator sets")
			}
			if domain == "ai.onnx" { // the other name of the default domain
				domain = ""
			}
			m.domains[domain] = true
		case onnxModelGraph:
			if graphs++; graphs > 1 {
				return errors.New("it holds two graphs")
			}
			if part, err = f.Message(); err == nil {
				err = m.graph(part)
			}
		}
		return err
	})
}

func (m *onnxModel) graph(b []byte) error {
	parts := 0
	return onnxwire.Fields(b, func(f onnxwire.Field) error {
		switch f.Number {
		case onnxGraphNode, onnxGraphInput, onnxGraphOutput:
		default: // initializers and descriptions
			return nil
		}
		if parts++; parts > onnxMaxParts {
			return unsupported("it has more than %d operators, inputs and outputs: this is more than a tree model", onnxMaxParts)
		}
		part, err := f.Message()
		if err != nil {
			return err
		}
		switch f.Number {
		case onnxGraphNode:
			n, err := newONNXNode(part)
			m.nodes = append(m.nodes, n)
			return err
		case onnxGraphInput:
			v, err := newONNXValue(part)
			m.inputs = append(m.inputs, v)
			return err
		}
		v, err := newONNXValue(part)
		m.outputs = append(m.outputs, v.name)
		return err
	})
}

func newONNXNode(b []byte) (n onnxNode, err error) {
	err = onnxwire.Fields(b, func(f onnxwire.Field) (err error) {
		var s string
		switch f.Number {
		case onnxNodeInput:
			s, err = f.Text()
			n.inputs = append(n.inputs, s)
		case onnxNodeOutput:
			s, err = f.Text()
			n.outputs = append(n.outputs, s)
		case onnxNodeOperator:
			n.operator, err = f.Text()
		case onnxNodeDomain:
			n.domain, err = f.Text()
			if n.domain == "ai.onnx" {
				n.domain = ""
			}
		case onnxNodeAttribute:
			var part []byte
			part, err = f.Message()
			n.attributes = append(n.attributes, part)
		}
		if len(n.inputs) > onnxMaxParts || len(n.outputs) > onnxMaxParts || len(n.attributes) > onnxMaxParts {
			return fmt.Errorf("an operator has more than %d inputs, outputs or attributes", onnxMaxParts)
		}
		return err
	})
	return n, err
}

func newONNXValue(b []byte) (v onnxValue, err error) {
	shape := func(f onnxwire.Field) error {
		if f.Number != onnxShapeDimension {
			return nil
		}
		b, err := f.Message()
		if err != nil {
			return err
		}
		if len(v.dims) >= 8 {
			return errors.New("an input has more than 8 dimensions")
		}
		v.dims = append(v.dims, 0)
		return onnxwire.Fields(b, func(f onnxwire.Field) error {
			if f.Number == onnxDimensionValue {
				v.dims[len(v.dims)-1] = int64(f.Bits)
			}
			return nil
		})
	}
	tensor := func(f onnxwire.Field) error {
		if f.Number == onnxTensorElement {
			v.element = f.Bits
		}
		if f.Number != onnxTensorShape {
			return nil
		}
		b, err := f.Message()
		if err != nil {
			return err
		}
		return onnxwire.Fields(b, shape)
	}
	err = onnxwire.Fields(b, func(f onnxwire.Field) (err error) {
		var part []byte
		switch f.Number {
		case onnxValueName:
			v.name, err = f.Text()
		case onnxValueType:
			if part, err = f.Message(); err != nil {
				return err
			}
			err = onnxwire.Fields(part, func(f onnxwire.Field) error {
				if f.Number != onnxTypeTensor {
					return nil // a sequence or map: ZipMap's output
				}
				b, err := f.Message()
				if err != nil {
					return err
				}
				return onnxwire.Fields(b, tensor)
			})
		}
		return err
	})
	return v, err
}

// walk follows the graph from its input to the trees and from there to an output, past operators that change no
// number. Anything else on that way is refused by name; what is computed from labels or constants alone is not served
// and may be anything.
func (m *onnxModel) walk() (trees *onnxNode, rows onnxValue, double bool, err error) {
	role := map[string]onnxRole{}
	from := map[string]int{} // which input a name comes from
	for i, v := range m.inputs {
		switch v.element {
		case onnxFloat:
			role[v.name] = onnxRows
		case onnxDouble:
			role[v.name] = onnxRowsF64
		default:
			continue // refused, without a name, where an operator needs it
		}
		from[v.name] = i
	}
	if !m.hasTrees() {
		return nil, rows, false, fmt.Errorf("%w: there is no TreeEnsembleClassifier or TreeEnsembleRegressor in it, but %s", ErrFormat, m.operators())
	}
	for i := range m.nodes {
		n := &m.nodes[i]
		for _, name := range n.outputs {
			if role[name] != onnxOther {
				return nil, rows, false, fmt.Errorf("%s is computed twice", quote(name))
			}
		}
		if n.isTrees() {
			if trees != nil {
				return nil, rows, false, unsupported("it holds two tree ensembles: only one is supported")
			}
			if len(n.inputs) != 1 || role[n.inputs[0]] != onnxRows && role[n.inputs[0]] != onnxRowsF64 {
				return nil, rows, false, unsupported("operator %s does not read the model's input, a tensor of float or double", n.operator)
			}
			trees, rows, double = n, m.inputs[from[n.inputs[0]]], role[n.inputs[0]] == onnxRowsF64
			scores := 0
			if n.operator == "TreeEnsembleClassifier" {
				scores = 1 // after the label
			}
			if len(n.outputs) > scores && n.outputs[scores] != "" {
				role[n.outputs[scores]] = onnxScores
			}
			continue
		}
		to, err := n.passes(role)
		if err != nil {
			return nil, rows, false, err
		}
		if to != onnxOther {
			role[n.outputs[0]], from[n.outputs[0]] = to, from[n.inputs[0]]
		}
	}
	for _, name := range m.outputs {
		if role[name] == onnxScores {
			return trees, rows, double, nil
		}
	}
	return nil, rows, false, unsupported("no output of the graph gives the scores of its trees")
}

func (n *onnxNode) isTrees() bool {
	return n.domain == "ai.onnx.ml" && (n.operator == "TreeEnsembleClassifier" || n.operator == "TreeEnsembleRegressor")
}

func (m *onnxModel) hasTrees() bool {
	for i := range m.nodes {
		if m.nodes[i].isTrees() {
			return true
		}
	}
	return false
}

// operators names the first kinds of operators of the graph.
func (m *onnxModel) operators() string {
	var kinds []string
	for i := range m.nodes {
		if kind := quote(m.nodes[i].operator); !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	switch n := len(kinds); {
	case n == 0:
		return "no operator at all"
	case n > 3:
		return fmt.Sprintf("%s and %d more", strings.Join(kinds[:3], ", "), n-3)
	}
	return strings.Join(kinds, ", ")
}

// passes is the role of the first output of an operator that is no tree ensemble: that of its input for those that
// change no number, onnxOther for those that are not on the way from the rows to the scores.
func (n *onnxNode) passes(role map[string]onnxRole) (onnxRole, error) {
	in := onnxOther
	for _, name := range n.inputs {
		if r := role[name]; r != onnxOther {
			in = r
		}
	}
	if in == onnxOther {
		return onnxOther, nil
	}
	if len(n.inputs) == 1 && len(n.outputs) == 1 {
		switch {
		case n.operator == "Identity" && n.domain == "":
			return in, nil
		case n.operator == "ZipMap" && n.domain == "ai.onnx.ml" && in == onnxScores:
			return in, nil
		case n.operator == "ArgMax" && n.domain == "" && in == onnxScores:
			return onnxOther, nil // the label
		case n.operator == "Cast" && n.domain == "":
			to, err := n.castsTo()
			switch {
			case err != nil:
				return onnxOther, err
			case (to == onnxFloat || to == onnxDouble) && in == onnxScores:
				return in, nil
			case to == onnxFloat:
				return onnxRows, nil // rows are float32 values, whatever they were called in between
			case to == onnxDouble:
				return onnxRowsF64, nil
			}
			return onnxOther, unsupported("operator Cast turns numbers into type %d, which is not supported between input and scores", to)
		}
	}
	where := "before"
	if in == onnxScores {
		where = "after"
	}
	return onnxOther, unsupported("operator %s %s the trees is not supported; Identity, Cast and ZipMap are", quote(n.operator), where)
}

func (n *onnxNode) castsTo() (to uint64, err error) {
	for _, b := range n.attributes {
		a, err := newONNXAttribute(b)
		if err != nil {
			return 0, err
		}
		if a.name == "to" {
			to = a.number
		}
	}
	return to, nil
}
