package monitor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Thresholds say from where on data differ too much. Those of the Constraints apply
// besides.
type Thresholds struct {
	// PSI is the highest population stability index that a feature, and ScorePSI that
	// the score may have.
	PSI, ScorePSI float64
	// Missing is by how much the part of missing values may be above the baseline's.
	Missing float64
	// OutOfRange is which part of a feature's numbers may be outside the baseline's
	// smallest and greatest.
	OutOfRange float64
	// MinRows is from how many rows on distributions are compared: of a few rows, any
	// two are different.
	MinRows uint64
}

// DefaultThresholds are what is mostly used.
func DefaultThresholds() Thresholds {
	return Thresholds{PSI: 0.2, ScorePSI: 0.2, Missing: 0.05, OutOfRange: 0.01, MinRows: 500}
}

// Check refuses thresholds that make no sense.
func (t Thresholds) Check() error {
	for _, v := range []struct {
		name  string
		value float64
	}{{"psi", t.PSI}, {"score psi", t.ScorePSI}, {"missing", t.Missing}, {"out of range", t.OutOfRange}} {
		if v.value < 0 || math.IsNaN(v.value) {
			return fmt.Errorf("the threshold for %s is %v, it must be 0 or more", v.name, v.value)
		}
	}
	return nil
}

// Report is what a comparison found.
type Report struct {
	Rows         uint64 `json:"rows"`
	BaselineRows uint64 `json:"baseline_rows"`
	// Compared tells whether there were rows enough to compare distributions.
	Compared   bool            `json:"distributions_compared"`
	Features   []FeatureReport `json:"features"`
	Violations []Violation     `json:"violations"`
	// Statistics are those of the data.
	Statistics *Statistics `json:"-"`
}

// FeatureReport is what there is to say about one feature. Parts are from 0 to 1.
type FeatureReport struct {
	Name    string  `json:"name"`
	Type    Type    `json:"type"`
	Present uint64  `json:"present"`
	Missing float64 `json:"missing"`
	// BaselineMissing is the part that was missing in the training set.
	BaselineMissing float64 `json:"baseline_missing"`
	// PSI is the population stability index, Distance what Model Monitor compares with
	// its threshold; nil where there were too few rows or the baseline does not say.
	PSI      *float64 `json:"psi"`
	Distance *float64 `json:"distance"`
	// Mismatched is which part has another type, OutOfRange which is outside the
	// baseline's smallest and greatest number, Unexpected which is not in its domain.
	Mismatched float64 `json:"mismatched"`
	OutOfRange float64 `json:"out_of_range"`
	Unexpected float64 `json:"unexpected"`
	// Bins are what the PSI is of.
	Bins       []BinReport `json:"bins"`
	Violations int         `json:"violations"`
}

// BinReport is one part of a feature's values.
type BinReport struct {
	Label    string  `json:"label"`
	Baseline float64 `json:"baseline"`
	Actual   float64 `json:"actual"`
}

// compared gathers what there is to say about a feature of the baseline.
type compared struct {
	name       string
	baseline   *Feature
	constraint *FeatureConstraint
	bins       *Bins
	counts     []uint64
	domain     map[string]bool
	column     *column

	mismatched, outside, negative, unexpected, lacking uint64
}

// Compare reads data to their end and compares them with a baseline.
func Compare(ctx context.Context, s *Statistics, c *Constraints, rows Rows, t Thresholds) (*Report, error) {
	r, err := compare(ctx, s, c, rows, t)
	if err != nil {
		return nil, fmt.Errorf("comparing with the baseline: %w", err)
	}
	return r, nil
}

func compare(ctx context.Context, s *Statistics, c *Constraints, rows Rows, t Thresholds) (*Report, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	all, err := pair(s, c)
	if err != nil {
		return nil, err
	}
	places := map[string]int{}
	for i, one := range all {
		places[one.name] = i
	}
	var to []int // of each column, which of all it is; -1 for none
	var extra []string
	row := make([]Value, len(all))
	count, err := each(ctx, rows, func(values []Value) error {
		for _, name := range rows.Columns()[len(to):] {
			place, known := places[name]
			if !known {
				place = -1
				extra = append(extra, name)
			}
			to = append(to, place)
		}
		clear(row)
		for i, v := range values {
			if to[i] >= 0 {
				row[to[i]] = v
			}
		}
		for i, v := range row {
			all[i].add(v)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if count == 0 {
		return nil, errors.New("there are no rows to compare")
	}
	return judge(s, c, all, extra, count, t), nil
}

// pair puts together what the two files say of each feature.
func pair(s *Statistics, c *Constraints) ([]*compared, error) {
	var all []*compared
	for i := range s.Features {
		f := &s.Features[i]
		one := &compared{name: f.Name, baseline: f, bins: BinsOf(f), column: newColumn()}
		if one.bins != nil {
			one.counts = make([]uint64, len(one.bins.Shares))
		}
		if at := slices.IndexFunc(c.Features, func(o FeatureConstraint) bool { return o.Name == f.Name }); at >= 0 {
			one.constraint = &c.Features[at]
			if texts := one.constraint.Strings; texts != nil && len(texts.Domains) > 0 {
				one.domain = map[string]bool{}
				for _, text := range texts.Domains {
					one.domain[text] = true
				}
			}
		}
		all = append(all, one)
	}
	for _, f := range c.Features {
		if !slices.ContainsFunc(all, func(o *compared) bool { return o.name == f.Name }) {
			return nil, fmt.Errorf("the constraints are about a feature %q that the statistics do not have: they are of different baselines", f.Name)
		}
	}
	return all, nil
}

func (f *compared) add(v Value) {
	f.column.add(v)
	switch v.Kind {
	case Absent:
		f.lacking++
		return
	case Missing:
		return
	}
	if f.mismatch(v) {
		f.mismatched++
	}
	if n := f.baseline.Numerical; n != nil && v.Kind == Number {
		if x := single(v.Number); x < single(n.Min) || x > single(n.Max) {
			f.outside++
		}
		if v.Number < 0 {
			f.negative++
		}
	}
	if f.domain != nil {
		text := v.Text
		if v.Kind == Number {
			text = formatNumber(v.Number)
		}
		if !f.domain[text] {
			f.unexpected++
		}
	}
	if f.bins != nil {
		if i := f.bins.index(v); i >= 0 {
			f.counts[i]++
		}
	}
}

// mismatch tells whether a value is of another type than the baseline's. A whole
// number is a fractional one as well, and any number a text.
func (f *compared) mismatch(v Value) bool {
	want := f.baseline.Type
	if f.constraint != nil {
		want = f.constraint.Type
	}
	switch want {
	case Integral:
		return v.Kind != Number || !whole(v.Number)
	case Fractional:
		return v.Kind != Number
	}
	return false
}

func part(n, of uint64) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

// judge makes the report.
func judge(s *Statistics, c *Constraints, all []*compared, extra []string, count uint64, t Thresholds) *Report {
	r := &Report{Rows: count, BaselineRows: uint64(s.Dataset.ItemCount), Compared: count >= t.MinRows, Violations: []Violation{}}
	r.Statistics = &Statistics{Dataset: Dataset{float64(count)}}
	evaluated := c.Config.EvaluateConstraints == enabled
	for _, f := range all {
		report := f.report(r.Compared, &c.Config)
		if evaluated {
			found := f.violations(&report, c, t)
			report.Violations = len(found)
			r.Violations = append(r.Violations, found...)
		}
		r.Features = append(r.Features, report)
		r.Statistics.Features = append(r.Statistics.Features, f.column.feature(f.name))
	}
	if evaluated && len(extra) > 0 {
		r.Violations = append(r.Violations, Violation{
			Feature: extra[0], Check: CheckExtraColumn,
			Description: fmt.Sprintf("There are extra columns in the current dataset: %s. The baseline has %d columns.", listed(extra), len(all)),
		})
	}
	return r
}

func (f *compared) report(enough bool, config *MonitoringConfig) FeatureReport {
	col := f.column
	r := FeatureReport{
		Name: f.name, Type: col.kind(), Present: col.present, Missing: part(col.missing, col.present+col.missing),
		Mismatched: part(f.mismatched, col.present), OutOfRange: part(f.outside, col.numbers), Unexpected: part(f.unexpected, col.present),
		Bins: []BinReport{},
	}
	if common := f.common(); common.Present+common.Missing > 0 {
		r.BaselineMissing = common.Missing / (common.Present + common.Missing)
	}
	if f.bins == nil {
		return r
	}
	var counted uint64
	for _, n := range f.counts {
		counted += n
	}
	for i, label := range f.bins.labels() {
		r.Bins = append(r.Bins, BinReport{label, f.bins.Shares[i], part(f.counts[i], counted)})
	}
	if !enough || counted == 0 {
		return r
	}
	psi, distance := f.bins.PSI(f.counts), f.distance(config, counted)
	r.PSI, r.Distance = &psi, &distance
	return r
}

func (f *compared) common() Common {
	switch {
	case f.baseline.Numerical != nil:
		return f.baseline.Numerical.Common
	case f.baseline.Strings != nil:
		return f.baseline.Strings.Common
	}
	return Common{}
}

// distance is how far the distributions are apart as Model Monitor has it: the
// largest difference between the distribution functions of numbers, less what
// chance explains where the method is Robust, and between the parts of texts.
func (f *compared) distance(config *MonitoringConfig, counted uint64) float64 {
	if f.baseline.Numerical == nil {
		var largest float64
		for i, n := range f.counts {
			largest = max(largest, math.Abs(part(n, counted)-f.bins.Shares[i]))
		}
		return largest
	}
	here, there := distributionOf(f.column.sketch.levels), f.baseline.Numerical.distribution()
	if f.bins.rounded {
		here.toSingle()
		there.toSingle()
	}
	d := here.distance(&there)
	if config.Distribution.Method == robust {
		n, m := f.baseline.Numerical.Common.Present, float64(f.column.numbers)
		if n > 0 && m > 0 {
			d = max(0, d-1.8*math.Sqrt((n+m)/(n*m)))
		}
	}
	return d
}

func percent(x float64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.2f", 100*x), ".00") + "%"
}

// violations are what is not as it should be with one feature.
func (f *compared) violations(r *FeatureReport, c *Constraints, t Thresholds) (found []Violation) {
	add := func(check Check, format string, args ...any) {
		found = append(found, Violation{f.name, check, fmt.Sprintf(format, args...)})
	}
	if f.column.present+f.column.missing == 0 {
		if f.constraint != nil && !IsScore(f.name) {
			add(CheckMissingColumn, "The current dataset has no column %s, which the baseline has.", f.name)
		}
		return found
	}
	if k := f.constraint; k != nil {
		if complete := 1 - r.Missing; complete < k.Completeness && r.Missing-r.BaselineMissing > t.Missing {
			add(CheckCompleteness, "%s of the values are there, in the baseline %s: that is more than %s less.", percent(complete), percent(k.Completeness), percent(t.Missing))
		}
		if match := 1 - r.Mismatched; match < c.Config.DatatypeThreshold {
			add(CheckType, "Data type match requirement is not met. Expected data type: %s, Expected match: %s. Observed: only %s of data is %s.",
				k.Type, percent(c.Config.DatatypeThreshold), percent(match), k.Type)
		}
		if k.Numbers != nil && k.Numbers.NonNegative && f.negative > 0 {
			add(CheckRange, "%d numbers are negative; the baseline has none that is.", f.negative)
		}
		if in := 1 - r.Unexpected; f.domain != nil && in < c.Config.DomainThreshold {
			add(CheckCategories, "%s of the values are not among those of the baseline; at most %s may be.", percent(r.Unexpected), percent(1-c.Config.DomainThreshold))
		}
	}
	if r.OutOfRange > t.OutOfRange {
		n := f.baseline.Numerical
		add(CheckRange, "%s of the numbers are outside the baseline's range from %g to %g; at most %s may be.", percent(r.OutOfRange), n.Min, n.Max, percent(t.OutOfRange))
	}
	limit := t.PSI
	if IsScore(f.name) {
		limit = t.ScorePSI
	}
	if r.PSI != nil && *r.PSI > limit {
		add(CheckDrift, "Population stability index: %.4f exceeds threshold: %g", *r.PSI, limit)
	}
	threshold := c.Config.Distribution.Threshold
	if f.baseline.Numerical == nil {
		threshold = c.Config.Distribution.CategoricalThreshold
	}
	if r.Distance != nil && c.Config.Distribution.PerformComparison == enabled && *r.Distance > threshold {
		add(CheckDrift, "Baseline drift distance: %.4f exceeds threshold: %g", *r.Distance, threshold)
	}
	return found
}

// IsScore tells whether a feature is the model's answer.
func IsScore(name string) bool {
	rest, ok := strings.CutPrefix(name, ScoreName)
	if !ok {
		return false
	}
	digits, numbered := strings.CutPrefix(rest, "_")
	return rest == "" || numbered && digits != "" && strings.Trim(digits, "0123456789") == ""
}
