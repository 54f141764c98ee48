package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/picket-ml/picket/bench/report"
)

// measured is what the tables take from a report.Report, which cannot be read back as a whole: its host is written only.
type measured struct {
	Host struct {
		Time  time.Time `json:"time"`
		Go    string    `json:"go"`
		Load  string    `json:"load_average"`
		Facts struct {
			CPU struct {
				Model       string `json:"model"`
				Family      int    `json:"family"`
				ModelNumber int    `json:"model_number"`
				Level       string `json:"level"`
				Cores       int    `json:"cores"`
			} `json:"cpu"`
			Kernel string `json:"kernel"`
		} `json:"facts"`
	} `json:"host"`
	Results any               `json:"results"`
	Figures []report.Figure   `json:"figures"`
	Servers []report.Server   `json:"servers"`
	LeftOut []report.LeftOut  `json:"left_out"`
	Notes   map[string]string `json:"notes"`
}

// load reads one benchmark's file, whose results are of type R.
func load[R any](folder, name string) (measured, []R, error) {
	var r measured
	var results []R
	r.Results = &results
	data, err := os.ReadFile(filepath.Join(folder, name+".json"))
	if err != nil {
		return r, nil, fmt.Errorf("reading the results of make bench-%s: %w", name, err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, nil, fmt.Errorf("reading the results of make bench-%s: %w", name, err)
	}
	return r, results, nil
}

// modelNames are what documents call the models.
var modelNames = map[string]string{
	"mlp":              "30-64-32-1 perceptron",
	"small-cnn":        "convolutions on 3x32x32",
	"mobilenet":        "MobileNet on 3x224x224",
	"fraud":            "30 trees of depth 4, by Treelite 0.93",
	"demo":             "demo, 100 trees of depth 5, by `picket compile`",
	"500x6x30":         "500 trees of depth 6, 30 features",
	"100x4x30":         "100 trees of depth 4, 30 features",
	"1000x8x100":       "1000 trees of depth 8, 100 features",
	"lightgbm-300x63":  "LightGBM, 300 trees of 63 leaves",
	"lightgbm-200x255": "LightGBM, 200 trees of 255 leaves",
	"4class-200x6x30":  "4 classes, 800 trees of depth 6",
	"5000x6x30":        "5000 trees of depth 6, 30 features",
}

func modelName(name string) string {
	if long, known := modelNames[name]; known {
		return long
	}
	return name
}

// cells are the measurements of engines in process: a time per row for every engine, in the order measured.
type cells struct {
	order  []cell
	engine map[cell]map[string]float64
}

// cell is what engines are compared in.
type cell struct {
	model, values, condition string
	rows, cores              int
}

func gather(results []report.Kernel) cells {
	c := cells{engine: map[cell]map[string]float64{}}
	for _, k := range results {
		at := cell{k.Model, k.Values, k.Condition, k.Rows, k.Cores}
		if c.engine[at] == nil {
			c.engine[at] = map[string]float64{}
			c.order = append(c.order, at)
		}
		c.engine[at][k.Engine] = k.USPerRow
	}
	return c
}

// of formats the time of an engine hot and shuffled, "0.72 / 2.50".
func (c cells) of(at cell, engine string) string {
	at.condition = "hot"
	hot := microseconds(c.engine[at], engine)
	at.condition = "shuffled"
	return hot + " / " + microseconds(c.engine[at], engine)
}

func microseconds(times map[string]float64, engine string) string {
	us, measured := times[engine]
	switch {
	case !measured:
		return "-"
	case us < 9.995:
		return fmt.Sprintf("%.2f", us)
	}
	return fmt.Sprintf("%.1f", us)
}
