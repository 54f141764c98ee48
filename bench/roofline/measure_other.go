//go:build !cgo || !linux

package roofline

import (
	"context"
	"errors"
)

// Measure fails: the loops are in C.
func Measure(context.Context) (*Report, error) {
	return nil, errors.New("measuring a roofline: this picket was built without C, in which the loops are")
}
