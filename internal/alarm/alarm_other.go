//go:build !linux

package alarm

func (*Alarm) ofSystem() bool { return false }
