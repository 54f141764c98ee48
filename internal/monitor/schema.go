package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Names of the files, as Model Monitor has them.
const (
	StatisticsFile  = "statistics.json"
	ConstraintsFile = "constraints.json"
	ViolationsFile  = "constraint_violations.json"
)

// Limits of what is read and made.
const (
	// MaxFileBytes bounds a file of statistics or constraints.
	MaxFileBytes = 64 << 20
	// MaxFeatures is how many features a data set may have.
	MaxFeatures = 4096

	maxNameBytes = 1024
	maxLevels    = 64
)

// Type is what a feature was found to be.
type Type string

// The types that Model Monitor infers. Unknown has no value at all.
const (
	Integral   Type = "Integral"
	Fractional Type = "Fractional"
	String     Type = "String"
	Unknown    Type = "Unknown"
)

func (t Type) numeric() bool { return t == Integral || t == Fractional }

// Statistics says what is in a data set.
type Statistics struct {
	Version  float64   `json:"version"`
	Dataset  Dataset   `json:"dataset"`
	Features []Feature `json:"features"`
}

// Dataset counts the rows.
type Dataset struct {
	ItemCount float64 `json:"item_count"`
}

// Feature is one column. Numerical is there where the type is Integral or
// Fractional, Strings where it is String.
type Feature struct {
	Name      string               `json:"name"`
	Type      Type                 `json:"inferred_type"`
	Numerical *NumericalStatistics `json:"numerical_statistics,omitempty"`
	Strings   *StringStatistics    `json:"string_statistics,omitempty"`
}

// Common counts the values of a column.
type Common struct {
	Present float64 `json:"num_present"`
	Missing float64 `json:"num_missing"`
}

// NumericalStatistics describes numbers. The standard deviation is that of the data
// set and not an estimate for a larger one.
type NumericalStatistics struct {
	Common       Common                `json:"common"`
	Mean         float64               `json:"mean"`
	Sum          float64               `json:"sum"`
	StdDev       float64               `json:"std_dev"`
	Min          float64               `json:"min"`
	Max          float64               `json:"max"`
	Distribution NumericalDistribution `json:"distribution"`
}

// NumericalDistribution is a sketch, and ten buckets of equal width.
type NumericalDistribution struct {
	KLL KLL `json:"kll"`
}

// KLL is a sketch of quantiles. A number in Sketch.Data[i] stands for 2^i numbers.
type KLL struct {
	Buckets []Bucket `json:"buckets"`
	Sketch  Sketch   `json:"sketch"`
}

// Bucket counts the numbers from LowerBound to below UpperBound; the last one has
// those that are its upper bound as well.
type Bucket struct {
	LowerBound float64 `json:"lower_bound"`
	UpperBound float64 `json:"upper_bound"`
	Count      float64 `json:"count"`
}

// Sketch is the sketch itself.
type Sketch struct {
	Parameters SketchParameters `json:"parameters"`
	Data       [][]float64      `json:"data"`
}

// SketchParameters are those it was made with.
type SketchParameters struct {
	C float64 `json:"c"`
	K float64 `json:"k"`
}

// StringStatistics describes texts.
type StringStatistics struct {
	Common        Common             `json:"common"`
	DistinctCount float64            `json:"distinct_count"`
	Distribution  StringDistribution `json:"distribution"`
}

// StringDistribution counts the values that are there most.
type StringDistribution struct {
	Categorical Categorical `json:"categorical"`
}

// Categorical counts values.
type Categorical struct {
	Buckets []Category `json:"buckets"`
}

// Category is one value.
type Category struct {
	Value string  `json:"value"`
	Count float64 `json:"count"`
}

// Constraints says what data must be like.
type Constraints struct {
	Version  float64             `json:"version"`
	Features []FeatureConstraint `json:"features"`
	Config   MonitoringConfig    `json:"monitoring_config"`
}

// FeatureConstraint is what a column must be like. Completeness is the part of its
// values that must be there.
type FeatureConstraint struct {
	Name         string             `json:"name"`
	Type         Type               `json:"inferred_type"`
	Completeness float64            `json:"completeness"`
	Numbers      *NumberConstraints `json:"num_constraints,omitempty"`
	Strings      *StringConstraints `json:"string_constraints,omitempty"`
}

// NumberConstraints is what numbers must be like.
type NumberConstraints struct {
	NonNegative bool `json:"is_non_negative"`
}

// StringConstraints are the values that a text may have.
type StringConstraints struct {
	Domains []string `json:"domains"`
}

// MonitoringConfig says what is checked and how strictly. Thresholds of a part are
// from 0 to 1.
type MonitoringConfig struct {
	EvaluateConstraints string `json:"evaluate_constraints"`
	EmitMetrics         string `json:"emit_metrics"`
	// DatatypeThreshold is the part of values that must have the baseline's type, and
	// DomainThreshold the part of texts that must be in the domain.
	DatatypeThreshold float64                 `json:"datatype_check_threshold"`
	DomainThreshold   float64                 `json:"domain_content_threshold"`
	Distribution      DistributionConstraints `json:"distribution_constraints"`
}

// DistributionConstraints says how far distributions may be apart.
type DistributionConstraints struct {
	PerformComparison    string  `json:"perform_comparison"`
	Threshold            float64 `json:"comparison_threshold"`
	Method               string  `json:"comparison_method"`
	CategoricalThreshold float64 `json:"categorical_comparison_threshold,omitempty"`
	CategoricalMethod    string  `json:"categorical_drift_method,omitempty"`
}

// What the switches of a MonitoringConfig say.
const (
	enabled  = "Enabled"
	disabled = "Disabled"
	simple   = "Simple"
	robust   = "Robust"

	linfinity = "LInfinity"
)

// Violations is what a comparison found.
type Violations struct {
	Violations []Violation `json:"violations"`
}

// Violation is one thing in which data are not as they should be.
type Violation struct {
	Feature     string `json:"feature_name"`
	Check       Check  `json:"constraint_check_type"`
	Description string `json:"description"`
}

// Check is what was looked at. CheckRange is ours; Model Monitor has the others.
type Check string

// The checks.
const (
	CheckType          Check = "data_type_check"
	CheckCompleteness  Check = "completeness_check"
	CheckDrift         Check = "baseline_drift_check"
	CheckMissingColumn Check = "missing_column_check"
	CheckExtraColumn   Check = "extra_column_check"
	CheckCategories    Check = "categorical_values_check"
	CheckRange         Check = "range_check"
)

// Encode gives the file.
func (s *Statistics) Encode() ([]byte, error) { return encode(StatisticsFile, s) }

// Encode gives the file.
func (c *Constraints) Encode() ([]byte, error) { return encode(ConstraintsFile, c) }

// Encode gives the file.
func (v *Violations) Encode() ([]byte, error) {
	if v.Violations == nil {
		v.Violations = []Violation{} // a reader iterates over it
	}
	return encode(ViolationsFile, v)
}

func encode(file string, document any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(document); err != nil {
		return nil, fmt.Errorf("writing %s: %w", file, err)
	}
	if b.Len() > MaxFileBytes {
		return nil, fmt.Errorf("writing %s: it has %d bytes, more than %d; leave columns out", file, b.Len(), MaxFileBytes)
	}
	return b.Bytes(), nil
}

// ParseStatistics reads a file of statistics, Model Monitor's own too.
func ParseStatistics(data []byte) (*Statistics, error) {
	s := &Statistics{}
	if err := decode(data, s); err != nil {
		return nil, fmt.Errorf("reading %s: %w", StatisticsFile, err)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", StatisticsFile, err)
	}
	return s, nil
}

// ParseConstraints reads a file of constraints, Model Monitor's own too.
func ParseConstraints(data []byte) (*Constraints, error) {
	c := &Constraints{}
	if err := decode(data, c); err != nil {
		return nil, fmt.Errorf("reading %s: %w", ConstraintsFile, err)
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", ConstraintsFile, err)
	}
	return c, nil
}

func decode(data []byte, to any) error {
	if len(data) > MaxFileBytes {
		return fmt.Errorf("it has %d bytes, more than %d", len(data), MaxFileBytes)
	}
	return json.Unmarshal(data, to)
}

func (s *Statistics) check() error {
	names := make([]string, len(s.Features))
	for i := range s.Features {
		names[i] = s.Features[i].Name
	}
	if err := checkNames(names); err != nil {
		return err
	}
	for i := range s.Features {
		if err := s.Features[i].check(); err != nil {
			return fmt.Errorf("feature %q: %w", s.Features[i].Name, err)
		}
	}
	return nil
}

func checkNames(names []string) error {
	if len(names) == 0 || len(names) > MaxFeatures {
		return fmt.Errorf("it has %d features, it must be 1 to %d", len(names), MaxFeatures)
	}
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		if name == "" || len(name) > maxNameBytes {
			return fmt.Errorf("a feature has no name, or one of more than %d bytes", maxNameBytes)
		}
		if seen[name] {
			return fmt.Errorf("two features are called %q", name)
		}
		seen[name] = true
	}
	return nil
}

func checkType(t Type) error {
	switch t {
	case Integral, Fractional, String, Unknown:
		return nil
	}
	return fmt.Errorf("the type %q is none of %s, %s, %s and %s", t, Integral, Fractional, String, Unknown)
}

func (f *Feature) check() error {
	if err := checkType(f.Type); err != nil {
		return err
	}
	if f.Type.numeric() {
		return f.Numerical.check()
	}
	if f.Type == String && f.Strings == nil {
		return errors.New("it is text and has no string_statistics")
	}
	return nil
}

func (n *NumericalStatistics) check() error {
	if n == nil {
		return errors.New("it is numeric and has no numerical_statistics")
	}
	if n.Min > n.Max || n.Common.Present < 0 || n.Common.Missing < 0 || n.StdDev < 0 {
		return errors.New("its statistics contradict each other")
	}
	if len(n.Distribution.KLL.Sketch.Data) > maxLevels {
		return fmt.Errorf("its sketch has %d levels, more than %d", len(n.Distribution.KLL.Sketch.Data), maxLevels)
	}
	for _, b := range n.Distribution.KLL.Buckets {
		if b.LowerBound > b.UpperBound || b.Count < 0 {
			return errors.New("one of its buckets ends before it begins, or has less than nothing in it")
		}
	}
	return nil
}

func (c *Constraints) check() error {
	names := make([]string, len(c.Features))
	for i, f := range c.Features {
		names[i] = f.Name
		if err := checkType(f.Type); err != nil {
			return fmt.Errorf("feature %q: %w", f.Name, err)
		}
		if f.Completeness < 0 || f.Completeness > 1 {
			return fmt.Errorf("feature %q: completeness is %v, it must be from 0 to 1", f.Name, f.Completeness)
		}
	}
	if err := checkNames(names); err != nil {
		return err
	}
	m := &c.Config
	for _, w := range []struct {
		key   string
		value *string
		known []string
	}{
		{"evaluate_constraints", &m.EvaluateConstraints, []string{enabled, disabled}},
		{"emit_metrics", &m.EmitMetrics, []string{enabled, disabled}},
		{"distribution_constraints.perform_comparison", &m.Distribution.PerformComparison, []string{enabled, disabled}},
		{"distribution_constraints.comparison_method", &m.Distribution.Method, []string{robust, simple}},
		{"distribution_constraints.categorical_drift_method", &m.Distribution.CategoricalMethod, []string{linfinity, "ChiSquared"}},
	} {
		if *w.value == "" {
			*w.value = w.known[0] // what Model Monitor does without it
		}
		if !slices.Contains(w.known, *w.value) {
			return fmt.Errorf("monitoring_config.%s is %q, which is none of %q", w.key, *w.value, w.known)
		}
	}
	if m.Distribution.CategoricalMethod != linfinity {
		return fmt.Errorf("monitoring_config.distribution_constraints.categorical_drift_method is %q, which Picket does not compute: use %s", m.Distribution.CategoricalMethod, linfinity)
	}
	for _, t := range []struct {
		key   string
		value float64
	}{
		{"datatype_check_threshold", m.DatatypeThreshold}, {"domain_content_threshold", m.DomainThreshold},
		{"distribution_constraints.comparison_threshold", m.Distribution.Threshold},
		{"distribution_constraints.categorical_comparison_threshold", m.Distribution.CategoricalThreshold},
	} {
		if t.value < 0 || t.value > 1 || math.IsNaN(t.value) {
			return fmt.Errorf("monitoring_config.%s is %v, it must be from 0 to 1", t.key, t.value)
		}
	}
	return nil
}
