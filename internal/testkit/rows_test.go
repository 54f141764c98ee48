package testkit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"testing"
)

// The digests are what scripts/fixtures/rows.py prints when run by Python.
func TestRowsMatchPython(t *testing.T) {
	for _, tc := range []struct {
		name   string
		make   func(n, cols int) []float32
		digest string
	}{
		{"Rows", Rows, "ca1a3f6dccd50cc5e5b96cbc0fa2709bf3ecee6876e528abd7e7405e405acd83"},
		{"RowsNoZeros", RowsNoZeros, "5643b142d2ca02c66b8c261b75bdd3c6d5731492247646d1a037f6937bb4a2c7"},
		{"RowsNoMissing", RowsNoMissing, "98d3db6a0a9d86251256015ebf9ce6a1a9e005e8949f57319c3549cf358256a4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := digest(t, tc.make(10000, 30)); got != tc.digest {
				t.Errorf("%s(10000, 30) has digest %s, Python's has %s", tc.name, got, tc.digest)
			}
		})
	}
}

func digest(t *testing.T, values []float32) string {
	t.Helper()
	data, err := binary.Append(nil, binary.LittleEndian, values)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func TestRowsDependOnRowAndColumnAlone(t *testing.T) {
	wide := Rows(200, 30)
	if !slices.EqualFunc(wide[:100*30], Rows(100, 30), sameBits) {
		t.Error("Rows(100, 30) is no prefix of Rows(200, 30)")
	}
	narrow := Rows(200, 12)
	for r := range 200 {
		if !slices.EqualFunc(wide[r*30:r*30+12], narrow[r*12:r*12+12], sameBits) {
			t.Fatalf("row %d of Rows(200, 12) differs from the first 12 columns of Rows(200, 30)", r)
		}
	}
}

func sameBits(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }

func TestRowsHoldWhatTheirCommentSays(t *testing.T) {
	const n, cols = 10000, 30
	var missing, zeros, ones int
	for i, v := range Rows(n, cols) {
		kind := i % cols % 10
		whole := v == float32(math.Trunc(float64(v)))
		switch {
		case v != v:
			missing++
		case kind == 0:
			if v < 1 || v > 1016 {
				t.Fatalf("amount %v in cell %d", v, i)
			}
		case kind == 5 || kind == 6:
			if !whole || v < 0 || v > 19 {
				t.Fatalf("count %v in cell %d", v, i)
			}
			if v == 0 {
				zeros++
			}
		case kind == 7:
			if v != 0 && v != 1 {
				t.Fatalf("flag %v in cell %d", v, i)
			}
			ones += int(v)
		default:
			if v == 0 || v < -3.5 || v > 3.5 {
				t.Fatalf("bell-shaped value %v in cell %d", v, i)
			}
		}
	}
	// Each expected count is a binomial's mean; the bounds are more than five of its deviations.
	if missing < 14300 || missing > 15700 {
		t.Errorf("%d of 300000 cells are missing, want about 15000", missing)
	}
	if zeros < 2560 || zeros > 3140 {
		t.Errorf("%d zero counts, want about 2850", zeros)
	}
	if ones < 2560 || ones > 3140 {
		t.Errorf("%d flags are 1, want about 2850", ones)
	}
}

func TestRowVariantsDifferOnlyWhereTheySay(t *testing.T) {
	const n, cols = 2000, 20
	plain, full, nonzero := Rows(n, cols), RowsNoMissing(n, cols), RowsNoZeros(n, cols)
	for i, v := range plain {
		if full[i] != full[i] {
			t.Fatalf("cell %d of RowsNoMissing is missing", i)
		}
		if v == v && !sameBits(v, full[i]) {
			t.Fatalf("cell %d: Rows has %v, RowsNoMissing %v", i, v, full[i])
		}
		want := v
		if v == 0 {
			want = 1e-40
		}
		if !sameBits(nonzero[i], want) {
			t.Fatalf("cell %d: RowsNoZeros has %v, want %v", i, nonzero[i], want)
		}
	}
}
