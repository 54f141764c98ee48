package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// percent is a flag of a share: 3% or 0.03.
type percent float64

func (p *percent) String() string { return fmt.Sprintf("%g%%", 100*float64(*p)) }

// Type is what the help calls the value.
func (p *percent) Type() string { return "percent" }

func (p *percent) Set(text string) error {
	number, isPercent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(v) || v < 0 {
		return errors.New("it is no share; write it as 3% or 0.03")
	}
	if isPercent {
		v /= 100
	}
	*p = percent(v)
	return nil
}
