package compile

import "math"

// key maps a float32 that is not NaN to an integer that sorts like it; both zeros are 0. The generated C does the same
// to a row's values.
func key(v float32) int32 {
	bits := math.Float32bits(v)
	magnitude := int32(bits &^ (1 << 31))
	if bits>>31 == 1 {
		return -magnitude
	}
	return magnitude
}

// roundDown is the greatest float32 that is not above v. For every float32 x, x <= v and x <= roundDown(v) are the same.
func roundDown(v float64) float32 {
	f := float32(v)
	if float64(f) > v {
		f = math.Nextafter32(f, float32(math.Inf(-1)))
	}
	return f
}
