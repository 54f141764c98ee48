//go:build !cgo || !linux

package cdlr

import (
	"errors"
	"testing"
)

func TestEverythingSaysWhy(t *testing.T) {
	l, err := Open("libdlr.so")
	if l != nil || !errors.Is(err, ErrUnavailable) {
		t.Errorf("Open: %v, %v", l, err)
	}
	if err := new(Library).Have("RunDLRModel"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Have: %v", err)
	}
	if err := new(Model).Run(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Run: %v", err)
	}
}
