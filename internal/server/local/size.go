package local

import (
	"math"
	"math/bits"

	"github.com/picket-ml/picket/engine"
)

// never is more bytes than any budget has, and so few that two sums of it do not overflow.
const never = math.MaxInt64 / 4

// OutputBytes is what the outputs of a request of so many rows take, with contributions
// where it is to be explained.
func OutputBytes(signature *engine.Signature, rows int, explain bool) int64 {
	var sum int64
	for i := range signature.Outputs {
		sum = min(sum+tensorBytes(&signature.Outputs[i], rows), never)
	}
	if explain && signature.Contributions != nil {
		sum = min(sum+tensorBytes(signature.Contributions, rows), never)
	}
	return sum
}

func tensorBytes(spec *engine.TensorSpec, rows int) int64 {
	row, err := spec.RowBytes()
	if err != nil || row < 0 || rows < 0 {
		return never
	}
	if !spec.HasRows() {
		rows = 1
	}
	high, low := bits.Mul64(uint64(row), uint64(rows))
	if high != 0 || low > never {
		return never
	}
	return int64(low)
}
