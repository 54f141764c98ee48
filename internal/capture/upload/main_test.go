package upload

import (
	"os"
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envVictim); dir != "" {
		os.Exit(victim(dir))
	}
	testkit.VerifyNoLeaks(m)
}
