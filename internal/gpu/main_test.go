package gpu

import (
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }
