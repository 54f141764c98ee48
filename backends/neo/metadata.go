package neo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

// Limits on compiled.meta. What Neo writes is a few kilobytes, five levels deep;
// the tables of a column transform can make it larger.
const (
	maxMetadataBytes = 4 << 20
	maxDepth         = 32
	maxTensors       = 256
	maxNameBytes     = 256
)

// Metadata is what compiled.meta says of a model.
type Metadata struct {
	// Inputs and Outputs are empty where the file does not list them. Dims hold
	// what the file says: any of them may be -1 for "not fixed".
	Inputs, Outputs []engine.TensorSpec
	// SparseInput tells that an exact zero in the input of a tree model stands
	// for a missing value.
	SparseInput bool
	// DeviceType is "cpu", "gpu" or "opencl"; empty where the file does not say.
	DeviceType string
	// TargetDevice is what the compilation job was asked for, such as "ml_c5".
	// Compilers took different liberties with the same name, so it is for
	// people to read and not for programs to decide by; see Doubt.
	TargetDevice string
	// CPULevel is the instruction set the code was compiled for. `picket compile`
	// writes it; Neo does not, and then it is empty.
	CPULevel hw.Level
	// LibrarySHA256 is the digest of the library that the file was written for, in
	// lower-case hexadecimal; see CheckDigest. `picket compile` writes it; Neo does
	// not, and then it is empty.
	LibrarySHA256 string
	// SourceSHA256 is the digest of the model file that the library was compiled
	// from, in the same form. `picket compile` writes it and puts the file beside
	// the library.
	SourceSHA256 string
	// Transforms names the data transforms that the runtime would apply around
	// the model, by their place in the file.
	Transforms []string
}

// document is compiled.meta as it is written.
type document struct {
	Model struct {
		Inputs      []tensorEntry
		Outputs     []tensorEntry
		SparseInput string
	}
	Requirements struct {
		TargetDevice     string
		TargetDeviceType string
	}
	DataTransform struct {
		Input  map[string]json.RawMessage
		Output map[string]map[string]json.RawMessage
	}
	// Picket is what `picket compile` adds; the runtime ignores it.
	Picket struct {
		CPU           string
		LibrarySHA256 *string // nil where the file has none; empty is malformed
		SourceSHA256  *string
	}
}

type tensorEntry struct {
	Name  string  `json:"name"`
	DType string  `json:"dtype"`
	Shape []int64 `json:"shape"`
}

// RunnableMetadata is ReadMetadata for who will run the artifact on the host: it
// fails too where the metadata demands what is not supported, or another host.
func RunnableMetadata(a *engine.Artifact, l Layout, host *hw.Host) (Metadata, error) {
	m, err := ReadMetadata(a, l)
	if err != nil {
		return m, err
	}
	if err := m.CheckSupported(); err != nil {
		return m, err
	}
	return m, m.CheckHost(host)
}

// ReadMetadata reads the metadata file of the layout. Without one, or with an
// empty one, which the runtime takes for none, it is the zero Metadata. One that
// is there and may not be read is an error, because without it the model could
// answer differently. Errors wrap engine.ErrArtifact and name the file.
func ReadMetadata(a *engine.Artifact, l Layout) (Metadata, error) {
	if l.Metadata == "" {
		for _, o := range a.LeftOut {
			if strings.HasSuffix(o.Name, metadataSuffix) {
				return Metadata{}, fmt.Errorf("%w: %v", engine.ErrArtifact, o)
			}
		}
		return Metadata{}, nil
	}
	data, err := a.ReadFile(l.Metadata, maxMetadataBytes)
	if err != nil {
		return Metadata{}, err
	}
	m, err := parseMetadata(data)
	if err != nil {
		return Metadata{}, fmt.Errorf("%w: reading %s: %w", engine.ErrArtifact, l.Metadata, err)
	}
	return m, nil
}

// parseMetadata reads the content of a compiled.meta, which is not trusted: its
// size, depth, number of tensors and names are bounded.
func parseMetadata(data []byte) (Metadata, error) {
	if len(data) > maxMetadataBytes {
		return Metadata{}, fmt.Errorf("it has %d bytes, the limit is %d", len(data), maxMetadataBytes)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return Metadata{}, nil
	}
	if err := checkDepth(data); err != nil {
		return Metadata{}, err
	}
	if err := checkKeys(data); err != nil {
		return Metadata{}, err
	}
	if err := checkKinds(data); err != nil {
		return Metadata{}, err
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return Metadata{}, fmt.Errorf("it is not the JSON that Neo writes: %w", err)
	}
	m := Metadata{
		DeviceType:   d.Requirements.TargetDeviceType,
		TargetDevice: d.Requirements.TargetDevice,
		CPULevel:     level(d.Picket.CPU),
		Transforms:   transforms(&d),
		SparseInput:  d.Model.SparseInput == "1",
	}
	for _, s := range []string{m.DeviceType, m.TargetDevice, d.Picket.CPU} {
		if err := checkName(s); err != nil {
			return Metadata{}, fmt.Errorf("reading what it requires: %w", err)
		}
	}
	var err error
	if m.LibrarySHA256, err = parseDigest(d.Picket.LibrarySHA256); err != nil {
		return Metadata{}, fmt.Errorf("its Picket.LibrarySHA256 %w", err)
	}
	if m.SourceSHA256, err = parseDigest(d.Picket.SourceSHA256); err != nil {
		return Metadata{}, fmt.Errorf("its Picket.SourceSHA256 %w", err)
	}
	if m.Inputs, err = specs("Inputs", d.Model.Inputs); err != nil {
		return Metadata{}, err
	}
	if m.Outputs, err = specs("Outputs", d.Model.Outputs); err != nil {
		return Metadata{}, err
	}
	return m, nil
}

// specs checks what the file lists under Model.Inputs or Model.Outputs.
func specs(list string, entries []tensorEntry) ([]engine.TensorSpec, error) {
	if len(entries) > maxTensors {
		return nil, fmt.Errorf("its Model.%s lists %d tensors, the limit is %d", list, len(entries), maxTensors)
	}
	var out []engine.TensorSpec
	for i, e := range entries {
		where := "its Model." + list + "[" + strconv.Itoa(i) + "]"
		if e.Name == "" {
			return nil, fmt.Errorf("%s has no name", where)
		}
		if err := checkName(e.Name); err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		d, err := tensor.ParseDType(trim(e.DType))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		if len(e.Shape) > tensor.MaxRank {
			return nil, fmt.Errorf("%s has %d dimensions, the limit is %d", where, len(e.Shape), tensor.MaxRank)
		}
		if slices.ContainsFunc(out, func(o engine.TensorSpec) bool { return o.Name == e.Name }) {
			return nil, fmt.Errorf("%s: another tensor is named %q too", where, e.Name)
		}
		for _, size := range e.Shape {
			if size < -1 || size == 0 {
				return nil, fmt.Errorf("%s has a dimension of %d, and should have 1 or more, or -1 where it is not fixed", where, size)
			}
		}
		out = append(out, engine.TensorSpec{Name: e.Name, DType: d, Dims: e.Shape})
	}
	return out, nil
}

// level is the instruction set of a target of `picket compile`, which calls
// every x86-64 processor just that.
func level(target string) hw.Level {
	if target == "x86-64" {
		return hw.X86V1
	}
	return hw.Level(target)
}

// transforms names, sorted, what the runtime would do to inputs and outputs.
func transforms(d *document) []string {
	var names []string
	if _, ok := d.DataTransform.Input["ColumnTransform"]; ok {
		names = append(names, "DataTransform.Input.ColumnTransform")
	}
	for index, kinds := range d.DataTransform.Output {
		if _, ok := kinds["CategoricalString"]; ok {
			names = append(names, "DataTransform.Output."+trim(index)+".CategoricalString")
		}
	}
	slices.Sort(names)
	return names
}

// checkDepth bounds the nesting before a recursive parser sees the data.
func checkDepth(data []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("it nests more than %d levels deep", maxDepth)
			}
		case c == '}', c == ']':
			depth--
		}
	}
	return nil
}

// checkKeys refuses JSON in which two readers could see two things: an object with a key that is there twice, in whatever case. The package encoding/json takes the
// last of them and any case, and the runtimes, which read the same bytes once they have passed here, take others. The depth was checked before; what is no JSON
// is left to whoever decodes it.
func checkKeys(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var twice error
	var value func() bool // tells whether to go on
	value = func() bool {
		token, err := d.Token()
		open, nested := token.(json.Delim)
		if err != nil || !nested {
			return err == nil
		}
		seen := map[string]bool{}
		for d.More() {
			if open == '{' {
				token, err := d.Token()
				key, isText := token.(string)
				if err != nil || !isText {
					return false
				}
				folded := strings.ToLower(strings.ToUpper(key))
				if seen[folded] {
					twice = fmt.Errorf("it has the key %q twice in one place, and not all would read the same", trim(key))
					return false
				}
				seen[folded] = true
			}
			if !value() {
				return false
			}
		}
		_, err = d.Token()
		return err == nil
	}
	value()
	return twice
}

// checkKinds refuses, among the keys that libdlr reads, values of other kinds
// than it expects: it ends the process over them, null included. The digests are
// ours; a null in the place of one is no digest and not the lack of one.
func checkKinds(data []byte) error {
	var root any
	if err := json.Unmarshal(data, &root); err != nil {
		return fmt.Errorf("it is not the JSON that Neo writes: %w", err)
	}
	if root == nil {
		return nil // libdlr takes it for no metadata at all
	}
	for _, key := range []struct {
		path []string
		text bool // a string, else an object
	}{
		{nil, false},
		{[]string{"Requirements"}, false},
		{[]string{"Requirements", "TargetDeviceType"}, true},
		{[]string{"Model"}, false},
		{[]string{"Model", "SparseInput"}, true},
		{[]string{"Model", "RelayVMAllocator"}, true},
		{[]string{"DataTransform"}, false},
		{[]string{"DataTransform", "Input"}, false},
		{[]string{"DataTransform", "Output"}, false},
		{[]string{"Picket", "LibrarySHA256"}, true},
		{[]string{"Picket", "SourceSHA256"}, true},
	} {
		value, found := root, true
		for _, step := range key.path {
			object, ok := value.(map[string]any)
			if value, found = object[step]; !ok || !found {
				found = false
				break
			}
		}
		if !found {
			continue
		}
		where := "it"
		if len(key.path) > 0 {
			where = "its " + strings.Join(key.path, ".")
		}
		_, isText := value.(string)
		_, isObject := value.(map[string]any)
		switch {
		case key.text && !isText:
			return fmt.Errorf("%s is not a string", where)
		case !key.text && !isObject:
			return fmt.Errorf("%s is not a JSON object", where)
		}
	}
	return nil
}

// checkName refuses what would make a mess of logs and listings.
func checkName(s string) error {
	if len(s) > maxNameBytes {
		return fmt.Errorf("a name has %d bytes, the limit is %d", len(s), maxNameBytes)
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			return fmt.Errorf("the name %q holds a control character", s)
		}
	}
	return nil
}

// trim keeps a stranger's text from filling a message.
func trim(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}
