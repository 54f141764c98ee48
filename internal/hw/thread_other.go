//go:build !linux

package hw

import (
	"errors"
	"runtime"
)

// onFirstThread matters where threads can be bound.
func onFirstThread() bool { return false }

// BindThread is for Linux alone.
func BindThread([]int) (restore func() error, err error) {
	return nil, errors.New("threads are bound to CPUs on Linux only, and this is " + runtime.GOOS)
}

// BindProcess is for Linux alone.
func BindProcess(int, []int) error {
	return errors.New("processes are bound to CPUs on Linux only, and this is " + runtime.GOOS)
}

// WakeSoon is for Linux alone, and does nothing here.
func WakeSoon() error { return nil }

// GiveWay is for Linux alone, and does nothing here.
func GiveWay(int) error { return nil }
