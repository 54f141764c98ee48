package devices

import (
	"testing"

	"github.com/picket-ml/picket/internal/cuda"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

func TestMain(m *testing.M) {
	testkit.VerifyNoLeaks(m,
		testkit.Handles{Name: "things of the CUDA driver", Open: cuda.Live},
		testkit.Handles{Name: "buffers", Open: func() int64 { return tensor.MemoryUsage().Live }})
}
