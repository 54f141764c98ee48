package packaging

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Names of the files that are not the model's.
const (
	// ManifestName is the file in which the Edge Manager packaging job left the name and the version of a model, and we
	// everything else.
	ManifestName = "sagemaker_edge_manifest"
	// SignatureName is the file with the signature, as model_signing calls it.
	SignatureName = "model.sig"
	// WarmupName is the file with the rows and the answers expected to them.
	WarmupName = "picket_warmup"
	// StatisticsName and ConstraintsName are the files with the baseline: what the data were like that the model was trained
	// on. They are Model Monitor's statistics.json and constraints.json, under names that libdlr does not take for a model's.
	StatisticsName  = "picket_statistics"
	ConstraintsName = "picket_constraints"

	variantsFolder = "variants"
	topLevel       = "."
)

// Limits of the format.
const (
	// MaxManifestBytes bounds the manifest.
	MaxManifestBytes = 1 << 20
	// MaxSignatureBytes bounds the signature.
	MaxSignatureBytes = 4 << 20
	// MaxFiles is how many files a package may have.
	MaxFiles = 4096
	// MaxFileBytes is what the largest has at most, less one: what a ustar header can say.
	MaxFileBytes = 8 << 30
	// MaxBytes is what all files together have at most.
	MaxBytes = 16 << 30
	// MaxVariants is how many variants a package may have.
	MaxVariants = 32
	// MaxWarmupRows is how many rows a package may bring, and MaxWarmupBytes what they may take.
	MaxWarmupRows  = 1024
	MaxWarmupBytes = 64 << 20
	// MaxBaselineBytes bounds each file of the baseline.
	MaxBaselineBytes = 64 << 20

	maxDepth      = 16
	maxTensors    = 256
	maxRank       = 16
	maxTensorName = 1024
	formatNumber  = 1
)

// Manifest says what a package is and what is in it.
type Manifest struct {
	Name, Version string
	// Variants are builds of one model, the most wanted first. One has the path ".".
	Variants []Variant
	// Source is the model file that they were made of; nil where there is none.
	Source *Source
	// Signature is what the model takes and gives; nil where it is not known.
	Signature *Signature
	// Warmup says where rows with their answers are; nil for nowhere.
	Warmup *Warmup
	// Files are all files but the manifest and the signature, sorted by path.
	Files []File
}

// Variant is one build of the model.
type Variant struct {
	Name string `json:"name"`
	// Path is its folder in the package, "." for the top.
	Path     string   `json:"path"`
	Requires Requires `json:"requires"`
}

// Requires is what a host must have. Zero fields ask for nothing.
type Requires struct {
	Arch     string   `json:"arch,omitempty"`     // as runtime.GOARCH has it
	Level    string   `json:"level,omitempty"`    // "x86-64-v3"
	Features []string `json:"features,omitempty"` // as internal/hw names them
	Glibc    string   `json:"glibc,omitempty"`    // at least; "2.28"
	GPU      *GPU     `json:"gpu,omitempty"`
}

// GPU asks for an NVIDIA GPU.
type GPU struct {
	ComputeCapability string `json:"compute_capability,omitempty"` // at least; "7.5"
}

// Source names the model file that the variants were compiled from.
type Source struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
}

// Signature is what a model takes and gives.
type Signature struct {
	Inputs  []Tensor `json:"inputs"`
	Outputs []Tensor `json:"outputs"`
}

// Tensor describes one. A first dimension of -1 is the number of rows.
type Tensor struct {
	Name  string  `json:"name"`
	DType string  `json:"dtype"` // of the Open Inference Protocol, "FP32"
	Shape []int64 `json:"shape"`
}

// Warmup says where the warm-up rows are, and how many.
type Warmup struct {
	File string `json:"file"`
	Rows int    `json:"rows"`
}

// File is one file of a package.
type File struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // 64 hexadecimal digits
}

// document is the manifest as it is written; metadata is the old service's part.
type document struct {
	Metadata metadata `json:"metadata"`
	Picket   body     `json:"picket"`
}

type metadata struct {
	Name    string `json:"model_name"`
	Version string `json:"model_version"`
}

type body struct {
	Format    int        `json:"format"`
	Variants  []Variant  `json:"variants"`
	Source    *Source    `json:"source_model,omitempty"`
	Signature *Signature `json:"signature,omitempty"`
	Warmup    *Warmup    `json:"warmup,omitempty"`
	Files     []File     `json:"files"`
}

// DigestOf is the digest of the package that has this manifest.
func DigestOf(manifest []byte) string {
	sum := sha256.Sum256(manifest)
	return digestPrefix + hex.EncodeToString(sum[:])
}

const digestPrefix = "sha256:"

var digestPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// CheckDigest refuses what is not "sha256:" and 64 hexadecimal digits, and gives the digits.
func CheckDigest(digest string) (digits string, err error) {
	digits, ok := strings.CutPrefix(digest, digestPrefix)
	if !ok || !digestPattern.MatchString(digits) {
		return "", fmt.Errorf("%q is no digest, which is sha256: and 64 hexadecimal digits in lower case", digest)
	}
	return digits, nil
}

// Encode checks the manifest and gives its file, the same bytes for the same manifest.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(document{
		metadata{m.Name, m.Version},
		body{formatNumber, m.Variants, m.Source, m.Signature, m.Warmup, m.Files},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the manifest: %w", err)
	}
	if len(data) >= MaxManifestBytes {
		return nil, bad("the manifest has %d bytes, more than %d", len(data), MaxManifestBytes)
	}
	return append(data, '\n'), nil
}

// ParseManifest reads a manifest. Errors wrap ErrFormat, ErrNewer, or, where it is one of the old service, ErrForeign.
func ParseManifest(data []byte) (*Manifest, error) {
	top, err := parseTop(data)
	if err != nil {
		return nil, err
	}
	raw, ok := top["picket"]
	if !ok {
		return nil, fmt.Errorf("%w: its manifest has no key picket", ErrForeign)
	}
	var format struct{ Format *int }
	if err := json.Unmarshal(raw, &format); err != nil || format.Format == nil {
		return nil, bad("the manifest does not say which format it has")
	}
	if *format.Format != formatNumber {
		return nil, fmt.Errorf("%w: it has format %d, this program knows %d; install a newer Picket", ErrNewer, *format.Format, formatNumber)
	}
	var b body
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return nil, bad("the manifest: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	names, err := parseMetadata(top["metadata"])
	if err != nil {
		return nil, err
	}
	m := &Manifest{Name: names.Name, Version: names.Version, Variants: b.Variants, Source: b.Source, Signature: b.Signature, Warmup: b.Warmup, Files: b.Files}
	if err := m.check(); err != nil {
		return nil, err
	}
	return m, nil
}

// ParseOldManifest reads the name and the version from a manifest that the old service may have written. Either may be empty.
func ParseOldManifest(data []byte) (name, version string, err error) {
	top, err := parseTop(data)
	if err != nil {
		return "", "", err
	}
	names, err := parseMetadata(top["metadata"])
	return names.Name, names.Version, err
}

func parseTop(data []byte) (map[string]json.RawMessage, error) {
	if len(data) > MaxManifestBytes {
		return nil, bad("the manifest is larger than %d bytes", MaxManifestBytes)
	}
	if err := CheckJSON(data, maxDepth); err != nil {
		return nil, bad("the manifest: %w", err)
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(data, &top); err != nil || top == nil {
		return nil, bad("the manifest is not an object of JSON")
	}
	return top, nil
}

func parseMetadata(raw json.RawMessage) (m metadata, err error) {
	if raw == nil {
		return m, nil
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return metadata{}, bad("the manifest's metadata: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return m, nil
}

// check refuses a manifest that does not describe a package.
func (m *Manifest) check() error {
	if err := errors.Join(CheckName(m.Name), CheckVersion(m.Version)); err != nil {
		return bad("%w", err)
	}
	paths, err := m.checkFiles()
	if err != nil {
		return err
	}
	if err := m.checkVariants(); err != nil {
		return err
	}
	if s := m.Source; s != nil {
		if err := checkFileName(s.File); err != nil {
			return err
		}
		if !digestPattern.MatchString(s.SHA256) {
			return bad("the digest of the source model is no SHA-256")
		}
		if !slices.ContainsFunc(m.Files, func(f File) bool {
			return f.Path[strings.LastIndexByte(f.Path, '/')+1:] == s.File && f.SHA256 == s.SHA256
		}) {
			return bad("no file is the source model %s", s.File)
		}
	}
	if m.Signature != nil {
		if err := m.Signature.check(); err != nil {
			return err
		}
	}
	if err := checkBaseline(paths); err != nil {
		return err
	}
	return m.checkWarmup(paths)
}

// checkBaseline looks at the sizes of the files.
func checkBaseline(sizes map[string]int64) error {
	statistics, hasStatistics := sizes[StatisticsName]
	constraints, hasConstraints := sizes[ConstraintsName]
	if hasStatistics != hasConstraints {
		return bad("of the files %s and %s there is one; a baseline is both", StatisticsName, ConstraintsName)
	}
	if max(statistics, constraints) > MaxBaselineBytes {
		return bad("a file of the baseline has more than %d bytes", MaxBaselineBytes)
	}
	return nil
}

// Baseline are the files of the baseline; none where there is no baseline.
func (m *Manifest) Baseline() []File {
	var files []File
	for _, f := range m.Files {
		if f.Path == StatisticsName || f.Path == ConstraintsName {
			files = append(files, f)
		}
	}
	return files
}

// ours tells whether a file is none of the model's: it lies at top level, whatever the variants.
func ours(name string) bool {
	switch name {
	case ManifestName, SignatureName, WarmupName, StatisticsName, ConstraintsName:
		return true
	}
	return false
}

// checkFiles gives the sizes of the files by their paths.
func (m *Manifest) checkFiles() (map[string]int64, error) {
	if len(m.Files) == 0 || len(m.Files) > MaxFiles {
		return nil, bad("it has %d files, it must be 1 to %d", len(m.Files), MaxFiles)
	}
	set, sizes, total := pathSet{ManifestName: true, SignatureName: true}, make(map[string]int64, len(m.Files)), int64(0)
	for i, f := range m.Files {
		if err := checkPath(f.Path); err != nil {
			return nil, err
		}
		if err := set.add(f.Path); err != nil {
			return nil, err
		}
		switch {
		case i > 0 && m.Files[i-1].Path >= f.Path:
			return nil, bad("the files are not in the order of their paths: %q follows %q", f.Path, m.Files[i-1].Path)
		case f.Size < 0 || f.Size >= MaxFileBytes:
			return nil, bad("the size of %s is %d, it must be from 0 to below %d", f.Path, f.Size, int64(MaxFileBytes))
		case !digestPattern.MatchString(f.SHA256):
			return nil, bad("the digest of %s is no SHA-256 in lower-case hexadecimal digits", f.Path)
		}
		if total += f.Size; total > MaxBytes {
			return nil, bad("the files have more than %d bytes together", int64(MaxBytes))
		}
		sizes[f.Path] = f.Size
	}
	return sizes, nil
}

var (
	variantName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`)
	dotted      = regexp.MustCompile(`^[0-9]{1,4}(\.[0-9]{1,4}){0,2}$`)
	word        = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,31}$`)
)

func (m *Manifest) checkVariants() error {
	if len(m.Variants) == 0 || len(m.Variants) > MaxVariants {
		return bad("it has %d variants, it must be 1 to %d", len(m.Variants), MaxVariants)
	}
	seen, top := map[string]bool{}, false
	for _, v := range m.Variants {
		if !variantName.MatchString(v.Name) || seen[strings.ToLower(v.Name)] {
			return bad("a variant is called %q, which is no name or is there twice", v.Name)
		}
		seen[strings.ToLower(v.Name)] = true
		switch {
		case v.Path == topLevel && !top:
			top = true
		case v.Path != variantsFolder+"/"+v.Name:
			return bad("variant %s lies in %q; one lies in %q, the others in %s/ and their name", v.Name, v.Path, topLevel, variantsFolder)
		}
		if len(m.FilesOf(v)) == 0 {
			return bad("variant %s has no files", v.Name)
		}
		if err := v.Requires.check(); err != nil {
			return bad("variant %s: %w", v.Name, err)
		}
	}
	if !top {
		return bad("no variant lies at top level")
	}
	for _, f := range m.Files {
		folder, name, nested := cutLast(f.Path)
		if nested && !slices.ContainsFunc(m.Variants, func(v Variant) bool { return v.Path == folder }) {
			return bad("the file %s belongs to no variant", f.Path)
		}
		if nested && ours(name) {
			return bad("the file %s has a name that only a file at top level may have", f.Path)
		}
	}
	return nil
}

func cutLast(path string) (folder, name string, nested bool) {
	if at := strings.LastIndexByte(path, '/'); at >= 0 {
		return path[:at], path[at+1:], true
	}
	return topLevel, path, false
}

func (r Requires) check() error {
	for _, w := range slices.Concat([]string{r.Arch, r.Level}, r.Features) {
		if w != "" && !word.MatchString(w) {
			return fmt.Errorf("it asks for %q, which is no feature", w)
		}
	}
	if len(r.Features) > 64 || slices.Contains(r.Features, "") {
		return errors.New("its list of features is no list of up to 64 names")
	}
	if r.Glibc != "" && !dotted.MatchString(r.Glibc) {
		return fmt.Errorf("it asks for glibc %q, which is no version", r.Glibc)
	}
	if r.GPU != nil && r.GPU.ComputeCapability != "" && !dotted.MatchString(r.GPU.ComputeCapability) {
		return fmt.Errorf("it asks for compute capability %q, which is none", r.GPU.ComputeCapability)
	}
	return nil
}

// dtypes are the types of the Open Inference Protocol that have a size, with it.
var dtypes = map[string]int64{
	"BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8,
	"FP16": 2, "FP32": 4, "FP64": 8, "BF16": 2,
}

func (s *Signature) check() error {
	for _, list := range [][]Tensor{s.Inputs, s.Outputs} {
		if len(list) == 0 || len(list) > maxTensors {
			return bad("the signature has %d inputs and %d outputs, each must be 1 to %d", len(s.Inputs), len(s.Outputs), maxTensors)
		}
		for _, t := range list {
			if len(t.Name) > maxTensorName {
				return bad("the name of a tensor is longer than %d bytes", maxTensorName)
			}
			if _, ok := dtypes[t.DType]; !ok {
				return bad("tensor %q has the type %q, which is none of the Open Inference Protocol with a size", t.Name, t.DType)
			}
			if len(t.Shape) > maxRank {
				return bad("tensor %q has %d dimensions, more than %d", t.Name, len(t.Shape), maxRank)
			}
			for i, d := range t.Shape {
				if d < 0 && (i > 0 || d != -1) {
					return bad("tensor %q: dimension %d is %d; only the first may be variable, as -1", t.Name, i, d)
				}
			}
		}
	}
	return nil
}

// Bytes is how many bytes the tensor has with that many rows, or -1 where that is too many for a package.
func (t Tensor) Bytes(rows int) int64 {
	n := dtypes[t.DType]
	for i, d := range t.Shape {
		if i == 0 && d == -1 {
			d = int64(rows)
		}
		if d > 0 && n > math.MaxInt64/d {
			return -1
		}
		n *= d
	}
	if n > MaxWarmupBytes {
		return -1
	}
	return n
}

// HasRows tells whether the first dimension is the number of rows.
func (t Tensor) HasRows() bool { return len(t.Shape) > 0 && t.Shape[0] == -1 }

// WarmupBytes is the size of the warm-up file with that many rows, or -1 where that is too much.
func (s *Signature) WarmupBytes(rows int) int64 {
	total := int64(0)
	for _, list := range [][]Tensor{s.Inputs, s.Outputs} {
		for _, t := range list {
			n := t.Bytes(rows)
			if n < 0 || total+n > MaxWarmupBytes {
				return -1
			}
			total += n
		}
	}
	return total
}

func (m *Manifest) checkWarmup(sizes map[string]int64) error {
	size, there := sizes[WarmupName]
	w := m.Warmup
	switch {
	case w == nil && there:
		return bad("the file %s is there, and the manifest says nothing of warm-up rows", WarmupName)
	case w == nil:
		return nil
	case w.File != WarmupName || !there:
		return bad("the warm-up rows are said to be in %q, they must be in %s", w.File, WarmupName)
	case m.Signature == nil:
		return bad("there are warm-up rows and no signature that says what they are")
	case w.Rows < 1 || w.Rows > MaxWarmupRows:
		return bad("there are %d warm-up rows, it must be 1 to %d", w.Rows, MaxWarmupRows)
	}
	if want := m.Signature.WarmupBytes(w.Rows); want != size {
		return bad("%s has %d bytes, %d rows of the signature's tensors do not", WarmupName, size, w.Rows)
	}
	return nil
}

// FilesOf are the files of a variant: those in its folder, without the warm-up rows and the baseline.
func (m *Manifest) FilesOf(v Variant) []File {
	var files []File
	for _, f := range m.Files {
		if folder, name, _ := cutLast(f.Path); folder == v.Path && !ours(name) {
			files = append(files, f)
		}
	}
	return files
}

// CompareDotted compares numbers with dots between them, such as versions of glibc.
func CompareDotted(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(x), len(y)) {
		var n, m int
		if i < len(x) {
			n, _ = strconv.Atoi(x[i]) // what is no number counts as none
		}
		if i < len(y) {
			m, _ = strconv.Atoi(y[i])
		}
		if n != m {
			return n - m
		}
	}
	return 0
}
