package rows

import (
	"fmt"
	"strings"

	"github.com/picket-ml/picket/tensor"
)

// Input is one input tensor of a model, seen from one row.
type Input struct {
	Name  string
	DType tensor.DType
	// Elements is how many numbers a row has, above 0.
	Elements int
}

// names lists the inputs for messages.
func names(inputs []Input) string {
	list := make([]string, len(inputs))
	for i, in := range inputs {
		list[i] = in.Name
	}
	return strings.Join(list, ", ")
}

// numbers is "20 numbers", "1 number".
func numbers(n int) string {
	if n == 1 {
		return "1 number"
	}
	return fmt.Sprintf("%d numbers", n)
}
