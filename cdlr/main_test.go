package cdlr

import (
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
)

func TestMain(m *testing.M) {
	testkit.VerifyNoLeaks(m,
		testkit.Handles{Name: "models", Open: func() int64 { return int64(OpenModels()) }},
		testkit.Handles{Name: "libraries", Open: func() int64 { return int64(OpenLibraries()) }})
}
