package cloudwatch

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/picket-ml/picket/internal/metrics"
)

// What one request to CloudWatch may hold, and what it takes of a datum.
const (
	maxDatums = 1000
	// maxRequest is below the limit of 1 MB, which is about what is sent before it is
	// compressed.
	maxRequest = 900_000
	maxValues  = 150
	// datumBytes and valueBytes are upper bounds of what encoding adds.
	datumBytes = 192
	valueBytes = 20

	maxDimension = 1024
)

// datum is one metric of one set of dimensions in one period, as it is kept.
type datum struct {
	Name       string       `json:"n"`
	Unit       metrics.Unit `json:"u"`
	Dimensions [][2]string  `json:"d"`
	Values     []float64    `json:"v"`
	Counts     []float64    `json:"c,omitempty"`
}

func (d *datum) bytes() int {
	n := datumBytes + len(d.Name) + valueBytes*len(d.Values)
	for _, dimension := range d.Dimensions {
		n += 32 + len(dimension[0]) + len(dimension[1])
	}
	return n
}

// batch is what one request holds. All of it was measured at the same time.
type batch struct {
	Time time.Time `json:"time"`
	Data []datum   `json:"data"`
}

// identity is who sends.
type identity struct{ Fleet, Device string }

// expand makes batches of readings: one datum for each set of dimensions.
func (id identity) expand(readings []metrics.Reading, at time.Time) []batch {
	var batches []batch
	size := maxRequest
	for i := range readings {
		r := usable(&readings[i])
		if len(r.Values) == 0 {
			continue
		}
		for _, set := range r.Metric.Sets {
			d := datum{Name: r.Metric.Name, Unit: r.Metric.Unit, Dimensions: id.dimensions(set, r.Labels), Values: r.Values, Counts: r.Counts}
			if n := len(batches); n == 0 || size+d.bytes() > maxRequest || len(batches[n-1].Data) == maxDatums {
				batches = append(batches, batch{Time: at})
				size = 0
			}
			size += d.bytes()
			last := &batches[len(batches)-1]
			last.Data = append(last.Data, d)
		}
	}
	return batches
}

// dimensions are the names and values of a set. One without a value is left out,
// because CloudWatch refuses it.
func (id identity) dimensions(set []string, l metrics.Labels) [][2]string {
	var all [][2]string
	for _, name := range set {
		if value := id.value(name, l); value != "" {
			all = append(all, [2]string{name, value})
		}
	}
	return all
}

func (id identity) value(name string, l metrics.Labels) string {
	switch name {
	case metrics.Fleet:
		return printable(id.Fleet)
	case metrics.Device:
		return printable(id.Device)
	case metrics.Model:
		return printable(l.Model)
	case metrics.Version:
		return printable(l.Version)
	case metrics.Feature:
		return printable(l.Feature)
	}
	return ""
}

// printable is what CloudWatch takes for a value: printable ASCII, not only blanks.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '_'
		}
		return r
	}, text)
	return strings.TrimSpace(text[:min(len(text), maxDimension)])
}

// greatest is what CloudWatch takes.
var greatest = math.Ldexp(1, 360)

// usable is a reading without what CloudWatch refuses: values that are no numbers or
// too large, and more of them than it takes, of which neighbours are put together.
func usable(r *metrics.Reading) metrics.Reading {
	u := *r
	u.Values, u.Counts = nil, nil
	for i, v := range r.Values {
		n := 1.0
		if r.Counts != nil {
			n = r.Counts[i]
		}
		if math.IsNaN(v) || math.Abs(v) > greatest || n <= 0 || math.IsNaN(n) || math.IsInf(n, 0) {
			continue
		}
		u.Values, u.Counts = append(u.Values, v), append(u.Counts, n)
	}
	for len(u.Values) > maxValues {
		half := (len(u.Values) + 1) / 2
		for i := range half {
			v, n := u.Values[2*i], u.Counts[2*i]
			if 2*i+1 < len(u.Values) {
				w, m := u.Values[2*i+1], u.Counts[2*i+1]
				v, n = (v*n+w*m)/(n+m), n+m
			}
			u.Values[i], u.Counts[i] = v, n
		}
		u.Values, u.Counts = u.Values[:half], u.Counts[:half]
	}
	if !slices.ContainsFunc(u.Counts, func(n float64) bool { return n != 1 }) {
		u.Counts = nil
	}
	return u
}
