package tvm_test

import (
	"testing"

	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

func TestMain(m *testing.M) {
	testkit.VerifyNoLeaks(m,
		testkit.Handles{Name: "buffers", Open: func() int64 { return tensor.MemoryUsage().Live }},
		testkit.Handles{Name: "libraries", Open: func() int64 { return int64(dl.OpenCount()) }})
}
