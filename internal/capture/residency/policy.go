package residency

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Action is what becomes of a value on its way out.
type Action string

// The actions. The zero Action is none; New takes it for Drop.
const (
	// Drop leaves the value out, and its column.
	Drop Action = "drop"
	// Allow lets it go as it is.
	Allow Action = "allow"
	// Hash puts a word of 32 hexadecimal digits in its place: a keyed digest of model,
	// feature and value. A missing value stays missing.
	Hash Action = "hash"
	// Bucket puts the largest bound in its place that is not above it, and the smallest
	// where all are.
	Bucket Action = "bucket"
	// Truncate cuts its decimals, towards zero.
	Truncate Action = "truncate"
)

// AnyModel is a ModelRule's Model for those that have no rule of their own.
const AnyModel = "*"

// Options are a policy as its author wrote it. The zero Options let nothing leave.
type Options struct {
	// Version is what its author calls the policy.
	Version string `json:"version,omitempty"`
	// Metrics lets model metrics leave: numbers about many requests.
	Metrics bool `json:"metrics"`
	// K is how many observations a bucket of a histogram must have to be published; below
	// 2 all are.
	K int `json:"k"`
	// Salt is the key of Hash: at least MinSalt bytes where anything is hashed.
	Salt []byte `json:"-"`
	// Destinations are where objects may go; none for nowhere.
	Destinations []Destination `json:"destinations"`
	Models       []ModelRule   `json:"models"`
}

// MinSalt is the shortest key, in bytes.
const MinSalt = 16

// ModelRule says what of a model's requests may leave.
type ModelRule struct {
	// Model is its name, or AnyModel.
	Model string `json:"model"`
	// Samples lets captured requests leave at all. False: metrics only.
	Samples bool `json:"samples"`
	// Columns name the columns of the first input, in order. A record with another number
	// of columns does not leave. None: columns have no names but their tensor's with a
	// number.
	Columns []string `json:"columns,omitempty"`
	// Features are the rules for single features, and Otherwise is for the inputs of which
	// there is none: Allow or Drop.
	Features  []FeatureRule `json:"features,omitempty"`
	Otherwise Action        `json:"otherwise"`
	// Outputs is for outputs without a rule, Auxiliary for what clients captured beside
	// tensors, Truth for outcomes: Allow or Drop.
	Outputs   Action `json:"outputs"`
	Auxiliary Action `json:"auxiliary"`
	Truth     Action `json:"truth"`
	// IDs is for the ids of events: Allow or Hash. With Drop nothing could be told apart.
	IDs Action `json:"ids"`
}

// FeatureRule says what becomes of one feature.
type FeatureRule struct {
	// Tensor is an input's or an output's name; empty for the first input.
	Tensor string `json:"tensor,omitempty"`
	// Feature is a column's name or its number from 0; empty for the whole tensor.
	Feature string `json:"feature,omitempty"`
	Action  Action `json:"action"`
	// Bounds are for Bucket, rising.
	Bounds []float64 `json:"bounds,omitempty"`
	// Digits are for Truncate: how many decimals stay; below 0 as many digits before the
	// point become zero.
	Digits int `json:"digits,omitempty"`
}

// Policy is Options that were found to make sense. It does not change.
type Policy struct {
	options Options
	text    []byte
	digest  string
	rules   map[string]*modelRule
}

// modelRule is a ModelRule, ready to be asked.
type modelRule struct {
	ModelRule
	// features are the rules by tensor, with "" for the first input, and by column, with
	// wholeTensor for all.
	features map[string]map[int]FeatureRule
}

const (
	wholeTensor = -1
	maxColumns  = 1 << 20
)

// New checks o and makes a Policy of it. The error says everything that is wrong, a line
// each, with the path of its key in the configuration.
func New(o Options) (*Policy, error) {
	p := &Policy{rules: map[string]*modelRule{}}
	o.Models, o.Destinations = slices.Clone(o.Models), slices.Clone(o.Destinations)
	var mistakes []error
	wrong := func(format string, args ...any) { mistakes = append(mistakes, fmt.Errorf(format, args...)) }
	hashed := false
	for i := range o.Models {
		m := &o.Models[i]
		path := fmt.Sprintf("models[%d]", i)
		for _, a := range []struct {
			key     string
			to      *Action
			allowed []Action
		}{
			{"otherwise", &m.Otherwise, []Action{Drop, Allow}}, {"outputs", &m.Outputs, []Action{Drop, Allow}},
			{"auxiliary", &m.Auxiliary, []Action{Drop, Allow}}, {"truth", &m.Truth, []Action{Drop, Allow}}, {"ids", &m.IDs, []Action{Hash, Allow}},
		} {
			if *a.to == "" {
				*a.to = a.allowed[0]
			}
			if !slices.Contains(a.allowed, *a.to) {
				wrong("%s.%s: %q is neither %s nor %s", path, a.key, *a.to, a.allowed[0], a.allowed[1])
			}
		}
		if m.Model == "" {
			wrong("%s.model: is empty: name the model, or %q for those without a rule", path, AnyModel)
		}
		if p.rules[m.Model] != nil {
			wrong("%s.model: %s has a rule already", path, m.Model)
		}
		hashed = hashed || m.Samples && m.IDs == Hash
		r, err := newModelRule(m, path)
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		for _, columns := range r.features {
			for _, f := range columns {
				hashed = hashed || f.Action == Hash
			}
		}
		p.rules[m.Model] = r
	}
	switch {
	case hashed && len(o.Salt) == 0:
		wrong("key: values or ids of requests are hashed, which takes a file of %d random bytes or more (head -c 32 /dev/urandom); without hash and with ids: allow none is needed", MinSalt)
	case hashed && len(o.Salt) < MinSalt:
		wrong("key: it has %d bytes; at least %d random ones are needed", len(o.Salt), MinSalt)
	}
	if o.K < 0 || o.K > 1_000_000 {
		wrong("k: %d is outside 0 to 1000000", o.K)
	}
	for i, d := range o.Destinations {
		if err := d.check(); err != nil {
			wrong("destinations[%d]: %w", i, err)
		}
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	p.options = o
	key := ""
	if len(o.Salt) > 0 {
		sum := sha256.Sum256(append([]byte("picket residency key\x00"), o.Salt...))
		key = hex.EncodeToString(sum[:8])
	}
	text, err := json.Marshal(struct {
		Options
		Key string `json:"key,omitempty"`
	}{o, key})
	if err != nil {
		return nil, fmt.Errorf("encoding the policy: %w", err)
	}
	sum := sha256.Sum256(text)
	p.text, p.digest = text, "sha256:"+hex.EncodeToString(sum[:])
	return p, nil
}

func newModelRule(m *ModelRule, path string) (*modelRule, error) {
	r := &modelRule{ModelRule: *m, features: map[string]map[int]FeatureRule{}}
	var mistakes []error
	seen := map[string]bool{}
	for i, c := range m.Columns {
		_, err := strconv.Atoi(c)
		switch {
		case c == "" || strings.ContainsAny(c, "\x00\r\n"):
			mistakes = append(mistakes, fmt.Errorf("%s.columns[%d]: %q is no name", path, i, c))
		case err == nil:
			mistakes = append(mistakes, fmt.Errorf("%s.columns[%d]: %q is a number, which cannot be told from a column's place", path, i, c))
		case seen[c]:
			mistakes = append(mistakes, fmt.Errorf("%s.columns[%d]: %q is named twice", path, i, c))
		}
		seen[c] = true
	}
	for i, f := range m.Features {
		path := fmt.Sprintf("%s.features[%d]", path, i)
		column, err := m.column(f)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s.feature: %w", path, err))
			continue
		}
		if err := f.check(); err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s: %w", path, err))
			continue
		}
		if r.features[f.Tensor] == nil {
			r.features[f.Tensor] = map[int]FeatureRule{}
		}
		if _, twice := r.features[f.Tensor][column]; twice {
			mistakes = append(mistakes, fmt.Errorf("%s.feature: there is a rule for it already", path))
		}
		r.features[f.Tensor][column] = f
	}
	return r, errors.Join(mistakes...)
}

// column is the number of the column that f is about.
func (m *ModelRule) column(f FeatureRule) (int, error) {
	if f.Feature == "" {
		if f.Tensor == "" {
			return 0, errors.New("is empty, and so is tensor: name a column, a tensor, or both")
		}
		return wholeTensor, nil
	}
	n, err := strconv.Atoi(f.Feature)
	if err == nil {
		most := maxColumns
		if f.Tensor == "" && len(m.Columns) > 0 {
			most = len(m.Columns)
		}
		if n < 0 || n >= most {
			return 0, fmt.Errorf("there is no column %d, they are counted from 0 to %d", n, most-1)
		}
		return n, nil
	}
	if f.Tensor != "" {
		return 0, fmt.Errorf("%q is unknown: columns names those of the first input, where no tensor is named; others have numbers", f.Feature)
	}
	if i := slices.Index(m.Columns, f.Feature); i >= 0 {
		return i, nil
	}
	if len(m.Columns) == 0 {
		return 0, fmt.Errorf("%q is unknown, as columns does not name any: write them there, or the column's number here", f.Feature)
	}
	return 0, fmt.Errorf("%q is unknown: it is not among columns", f.Feature)
}

func (f FeatureRule) check() error {
	if f.Action != Bucket && len(f.Bounds) > 0 {
		return fmt.Errorf("bounds: are for bucket, and the action is %s", f.Action)
	}
	if f.Action != Truncate && f.Digits != 0 {
		return fmt.Errorf("digits: are for truncate, and the action is %s", f.Action)
	}
	switch f.Action {
	case Allow, Drop, Hash:
	case Bucket:
		if len(f.Bounds) == 0 {
			return errors.New("bounds: are missing")
		}
		for i, b := range f.Bounds {
			if math.IsNaN(b) || math.IsInf(b, 0) || i > 0 && b <= f.Bounds[i-1] {
				return fmt.Errorf("bounds[%d]: %v is not above the one before, or no number", i, b)
			}
		}
	case Truncate:
		if f.Digits < -15 || f.Digits > 15 {
			return fmt.Errorf("digits: %d is outside -15 to 15", f.Digits)
		}
	default:
		return fmt.Errorf("action: %q is none of allow, drop, hash, bucket and truncate", f.Action)
	}
	return nil
}

// Options are what it was made of, to make the same one elsewhere. They are p's, and only
// read.
func (p *Policy) Options() Options { return p.options }

// Digest is that of the whole policy: "sha256:" and 64 digits. It changes with the key
// of Hash too.
func (p *Policy) Digest() string { return p.digest }

// Version is what the policy's author calls it.
func (p *Policy) Version() string { return p.options.Version }

// Text is the policy as JSON: what Digest is the digest of. The key of Hash is not in
// it, only what tells it from others.
func (p *Policy) Text() []byte { return slices.Clone(p.text) }

// Metrics tells whether metrics may leave.
func (p *Policy) Metrics() bool { return p.options.Metrics }

// Samples tells whether captured requests of the model may leave.
func (p *Policy) Samples(model string) bool {
	r := p.rule(model)
	return r != nil && r.Samples
}

// AnySamples tells whether captured requests of any model may.
func (p *Policy) AnySamples() bool {
	return slices.ContainsFunc(p.options.Models, func(m ModelRule) bool { return m.Samples })
}

func (p *Policy) rule(model string) *modelRule {
	if r := p.rules[model]; r != nil {
		return r
	}
	return p.rules[AnyModel]
}

// keyed is the word that Hash puts in the place of a value.
func (p *Policy) keyed(parts ...string) string {
	mac := hmac.New(sha256.New, p.options.Salt)
	for _, part := range parts {
		var length [8]byte // so that no two lists of parts run into the same bytes
		binary.LittleEndian.PutUint64(length[:], uint64(len(part)))
		mac.Write(length[:])
		mac.Write([]byte(part))
	}
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
