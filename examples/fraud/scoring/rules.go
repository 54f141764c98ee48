package scoring

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/features"
)

//go:embed rules.yaml
var defaultRules []byte

// DefaultRules is the text of the rule set that decides where no other is configured.
func DefaultRules() []byte { return slices.Clone(defaultRules) }

// Rules is a rule set that decides about profiles without a model.
type Rules struct{ list []rule }

type rule struct {
	Name    string      `yaml:"name"`
	Verdict api.Verdict `yaml:"verdict"`
	When    []condition `yaml:"when"`
}

type condition struct {
	Feature string   `yaml:"feature"`
	AtLeast *float32 `yaml:"at_least"`
	Below   *float32 `yaml:"below"`
	index   int
}

// ParseRules reads a rule set in the form of rules.yaml.
func ParseRules(text []byte) (*Rules, error) {
	var file struct {
		Rules []rule `yaml:"rules"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		return nil, fmt.Errorf("reading rules: %w", err)
	}
	if len(file.Rules) == 0 {
		return nil, errors.New("reading rules: there is none, and without any everything would be approved")
	}
	names := features.Names()
	for i := range file.Rules {
		r := &file.Rules[i]
		if r.Name == "" || severity(r.Verdict) < 0 || len(r.When) == 0 {
			return nil, fmt.Errorf("reading rules: rule %d needs a name, a verdict (approve, challenge, deny) and at least one condition", i+1)
		}
		for j := range r.When {
			c := &r.When[j]
			if c.index = slices.Index(names, c.Feature); c.index < 0 {
				return nil, fmt.Errorf("reading rules: rule %q is about %q, and there is no feature of that name", r.Name, c.Feature)
			}
			if c.AtLeast == nil && c.Below == nil {
				return nil, fmt.Errorf("reading rules: the condition of rule %q on %s needs at_least or below", r.Name, c.Feature)
			}
		}
	}
	return &Rules{file.Rules}, nil
}

// severity orders verdicts; -1 is none.
func severity(v api.Verdict) int {
	return slices.Index([]api.Verdict{api.Approve, api.Challenge, api.Deny}, v)
}

// Decide is the verdict about a profile, and the rules that hold.
func (r *Rules) Decide(profile []float32) (api.Verdict, []api.Reason) {
	verdict := api.Approve
	var reasons []api.Reason
	for i := range r.list {
		if one := &r.list[i]; one.holds(profile) {
			reasons = append(reasons, api.Reason{Feature: "rule", Text: one.Name})
			if severity(one.Verdict) > severity(verdict) {
				verdict = one.Verdict
			}
		}
	}
	return verdict, reasons
}

func (r *rule) holds(profile []float32) bool {
	for _, c := range r.When {
		v := profile[c.index]
		if math.IsNaN(float64(v)) || c.AtLeast != nil && v < *c.AtLeast || c.Below != nil && v >= *c.Below {
			return false
		}
	}
	return true
}
