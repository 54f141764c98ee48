package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The demo's files, which train.py makes.
const (
	featuresFile     = "features.txt"
	transactionsFile = "transactions.csv"
	expectedFile     = "expected.csv"
)

// A score at or above the first is denied, at or above the second needs a second factor.
const (
	denyFrom = 0.80
	askFrom  = 0.30
)

// transaction is one card payment.
type transaction struct {
	number   int       // its row, from 1
	values   []float32 // NaN where unknown
	columns  map[string]int
	expected float32 // XGBoost's own score
	score    float32 // Picket's
}

// feature is a value by name, NaN where unknown.
func (t *transaction) feature(name string) float64 { return float64(t.values[t.columns[name]]) }

// decision is what a payment service would make of the score.
func (t *transaction) decision() decision {
	switch {
	case t.score >= denyFrom:
		return deny
	case t.score >= askFrom:
		return ask
	}
	return approve
}

// readTransactions reads the transactions with their features' names and expected scores.
func readTransactions(dir string) ([]transaction, error) {
	names, err := readLines(dir, featuresFile)
	if err != nil {
		return nil, err
	}
	rows, err := readLines(dir, transactionsFile)
	if err != nil {
		return nil, err
	}
	expected, err := readLines(dir, expectedFile)
	if err != nil {
		return nil, err
	}
	if len(expected) != len(rows)+1 { // it has a header
		return nil, fmt.Errorf("reading the transactions: %s has %d rows, %s has answers for %d", transactionsFile, len(rows), expectedFile, len(expected)-1)
	}
	columns := make(map[string]int, len(names))
	for i, name := range names {
		columns[name] = i
	}
	for _, c := range tableColumns {
		if _, ok := columns[c.feature]; !ok {
			return nil, fmt.Errorf("reading the transactions: %s has no feature %s", featuresFile, c.feature)
		}
	}
	list := make([]transaction, len(rows))
	for i, row := range rows {
		values, err := parseRow(row, len(names))
		if err != nil {
			return nil, fmt.Errorf("reading %s: row %d: %w", transactionsFile, i+1, err)
		}
		answer, err := parseRow(expected[i+1], 2) // probability, margin
		if err != nil {
			return nil, fmt.Errorf("reading %s: row %d: %w", expectedFile, i+1, err)
		}
		list[i] = transaction{number: i + 1, values: values, columns: columns, expected: answer[0]}
	}
	return list, nil
}

func readLines(dir, name string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("reading the transactions: %w", err)
	}
	return strings.Split(strings.TrimRight(string(text), "\n"), "\n"), nil
}

// parseRow reads want numbers; an empty one is unknown.
func parseRow(row string, want int) ([]float32, error) {
	cells := strings.Split(row, ",")
	if len(cells) != want {
		return nil, fmt.Errorf("it has %d numbers, %d are wanted", len(cells), want)
	}
	values := make([]float32, want)
	for i, cell := range cells {
		if cell == "" {
			values[i] = float32(math.NaN())
			continue
		}
		v, err := strconv.ParseFloat(cell, 32)
		if err != nil {
			return nil, fmt.Errorf("column %d: %w", i+1, err)
		}
		values[i] = float32(v)
	}
	return values, nil
}
