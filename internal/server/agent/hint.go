package agent

import (
	"fmt"
	"math"
	"strings"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/server/failure"
)

// hint is what the metadata of a request's tensor says of its bytes.
type hint struct {
	given    bool
	dataType agentapi.DataType
	shape    []int32
	open     int   // how many dimensions are -1
	elements int64 // product of the others, -1 if it does not fit 64 bits
}

// readHint refuses metadata that means nothing: element types the interface
// does not have, and dimensions below -1.
func readHint(m *agentapi.TensorMetadata) (hint, error) {
	if m == nil {
		return hint{}, nil
	}
	h := hint{given: true, dataType: m.GetDataType(), shape: m.GetShape(), elements: 1}
	if elementSize(h.dataType) == 0 {
		return hint{}, fmt.Errorf("its data_type %d is no type of the interface", int32(h.dataType))
	}
	for _, d := range h.shape {
		switch {
		case d < -1:
			return hint{}, fmt.Errorf("its shape has the dimension %d; only -1 may be negative, for one that follows from the number of bytes", d)
		case d == -1:
			h.open++
		case h.elements < 0 || (d > 0 && h.elements > math.MaxInt64/int64(d)):
			h.elements = -1
		default:
			h.elements *= int64(d)
		}
	}
	return h, nil
}

// leavesRowsOpen says whether the shape, if there is one, leaves the number of
// rows to follow from the number of bytes.
func (h hint) leavesRowsOpen(spec *engine.TensorSpec) bool {
	names := len(h.shape) == len(spec.Dims) && h.shape[0] > 0
	return !names && (len(h.shape) == 0 || h.open > 0)
}

// rows is the number of rows that the shape names for spec, 1 if it names none.
func (h hint) rows(spec *engine.TensorSpec) uint32 {
	if len(h.shape) == len(spec.Dims) && h.shape[0] > 0 {
		return uint32(h.shape[0])
	}
	return 1
}

// allows is the check for old clients: the number of bytes decides. It fits
// the model already, as rows rows of it; the hint is refused only where the
// same bytes could as well be another number of rows, so that float64 numbers
// are not read as twice as many rows of float32.
func (h hint) allows(spec *engine.TensorSpec, rows int) error {
	if !h.given || !spec.HasRows() {
		return nil
	}
	elements := elementsOf(spec, rows)
	switch {
	case len(h.shape) == 0 || h.open > 0:
		// UINT8 is also what an absent field reads as, which says nothing.
		if rows > 1 && h.dataType != agentapi.DataType_UINT8 && elementSize(h.dataType) != spec.DType.Size() {
			return fmt.Errorf("its data_type is %s where %s is wanted, which leaves the number of rows open: send the right type, or the whole shape", h.dataType, spec)
		}
		if len(h.shape) > 0 && (h.elements <= 0 || elements%h.elements != 0) {
			return fmt.Errorf("its shape %s does not fit the %s that its bytes are for %s", short(h.shape), failure.Counted(int(elements), "element"), spec)
		}
	case h.elements != elements:
		return fmt.Errorf("its shape %s is not that of the %s that its bytes are for %s", short(h.shape), failure.Counted(rows, "row"), spec)
	}
	return nil
}

// matches is the strict check: the hint, where there is one, has the model's
// type and shape, with -1 for any dimension.
func (h hint) matches(spec *engine.TensorSpec, rows int) error {
	if !h.given {
		return nil
	}
	if want := dataType(spec.DType); h.dataType != want {
		return fmt.Errorf("its data_type is %s where %s is wanted", h.dataType, want)
	}
	if len(h.shape) != len(spec.Dims) {
		return fmt.Errorf("its shape %s has %s where %s is wanted", short(h.shape), failure.Counted(len(h.shape), "dimension"), spec)
	}
	for i, want := range spec.Dims {
		if want == engine.Variable {
			want = int64(rows)
		}
		if got := h.shape[i]; got != -1 && int64(got) != want {
			return fmt.Errorf("its shape %s has %d in dimension %d where its bytes for %s make %d", short(h.shape), got, i, spec, want)
		}
	}
	return nil
}

// elementsOf is the number of elements of that many rows. They are in memory,
// so it does not overflow.
func elementsOf(spec *engine.TensorSpec, rows int) int64 {
	n := int64(rows)
	for _, d := range spec.Dims[1:] {
		n *= d
	}
	return n
}

// short is as much of a shape as belongs into a sentence.
func short(shape []int32) string {
	const limit = 8
	if len(shape) <= limit {
		return fmt.Sprint(shape)
	}
	return strings.TrimSuffix(fmt.Sprint(shape[:limit]), "]") + " …]"
}
