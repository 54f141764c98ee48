package streamcopy

import "testing"

// shifts is the assembler's.
var shifts [2]uint64

func TestShifts(t *testing.T) {
	for i, power := range []int{2048 + 63, 2047} {
		remainder := uint32(1)
		for range power {
			carry := remainder >> 31
			remainder = remainder<<1 ^ carry*0x1edc6f41 // Castagnoli's polynomial, without its highest power
		}
		want := uint64(0)
		for d := range 32 {
			want |= uint64(remainder>>d&1) << (63 - d)
		}
		if shifts[i] != want {
			t.Errorf("shift %d is %#x, it should be %#x", i, shifts[i], want)
		}
	}
}
