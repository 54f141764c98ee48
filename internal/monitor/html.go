package monitor

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"time"
)

//go:embed report.html.tmpl
var pageText string

// page shows a Report. It loads nothing: style and plots are in it.
var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"percent": percent,
	"number":  func(x *float64) string { return fmt.Sprintf("%.4f", *x) },
	"plot":    plot,
}).Parse(pageText))

// Caption says what a page is about.
type Caption struct {
	Title    string    // such as the model
	Data     string    // where the captured data are
	Baseline string    // where the baseline is
	Made     time.Time // when
}

// WriteHTML writes the report as one page, those features first that have violations
// or have changed most.
func (r *Report) WriteHTML(w io.Writer, c Caption) error {
	features := slices.Clone(r.Features)
	slices.SortStableFunc(features, func(a, b FeatureReport) int {
		if (a.Violations > 0) != (b.Violations > 0) {
			return b.Violations - a.Violations
		}
		return compareOptional(b.PSI, a.PSI)
	})
	err := page.Execute(w, struct {
		*Report
		Caption
		Sorted []FeatureReport
	}{r, c, features})
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func compareOptional(a, b *float64) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	case *a < *b:
		return -1
	case *a > *b:
		return 1
	}
	return 0
}

// The size of a plot in its own units.
const (
	plotWidth  = 560
	plotHeight = 160
	plotBase   = plotHeight - 4
)

// bar is one rectangle of a plot.
type bar struct {
	X, Y, Width, Height float64
	Class, Text         string
}

// drawing is a plot for the template.
type drawing struct {
	Width, Height, Base int
	Top                 string // what the greatest height stands for
	Bars                []bar
}

// plot draws the parts of the baseline and of the data beside each other.
func plot(f FeatureReport) drawing {
	d := drawing{Width: plotWidth, Height: plotHeight, Base: plotBase}
	var top float64
	for _, b := range f.Bins {
		top = max(top, b.Baseline, b.Actual)
	}
	if top == 0 {
		return d
	}
	d.Top = percent(top)
	slot := float64(plotWidth) / float64(len(f.Bins))
	for i, b := range f.Bins {
		for j, side := range []struct {
			class string
			share float64
		}{{"baseline", b.Baseline}, {"actual", b.Actual}} {
			height := side.share / top * (plotBase - 14)
			d.Bars = append(d.Bars, bar{
				X: slot*float64(i) + slot*(0.08+0.42*float64(j)), Y: plotBase - height, Width: slot * 0.42, Height: height,
				Class: side.class, Text: fmt.Sprintf("%s, %s: %s", b.Label, side.class, percent(side.share)),
			})
		}
	}
	return d
}
