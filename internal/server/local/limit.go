package local

import "fmt"

// Limit is a bound on something that clients send, in bytes.
type Limit struct {
	Value   *int64 // as configured; 0 becomes Builtin
	Builtin int64
	Max     int64
	Of      string // what it is that may be so large
}

// SetLimits gives limits that are not configured their built-in values, and fails for the first that is out of its range. server
// is what the error calls the server that is being made.
func SetLimits(server string, limits ...Limit) error {
	for _, l := range limits {
		if *l.Value == 0 {
			*l.Value = l.Builtin
		}
		if *l.Value < 0 || *l.Value > l.Max {
			return fmt.Errorf("making the %s: the largest %s is %d bytes, it must be from 1 to %d", server, l.Of, *l.Value, l.Max)
		}
	}
	return nil
}
