package compile

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
)

// TestLesserProcessors runs artifacts for the baseline on emulated processors of that and of later levels: whatever an
// engine finds there, the answers are the same bits, and nothing ends with an illegal instruction.
func TestLesserProcessors(t *testing.T) {
	const emulator = "qemu-x86_64"
	if _, err := exec.LookPath(emulator); err != nil {
		t.Fatalf("there is no %s: install the package qemu-user (Debian, Ubuntu)", emulator)
	}
	for _, engine := range engines() {
		for _, name := range []string{"fraud-1.7.6", "binary-4.7.0"} {
			t.Run(engine.Name+" "+name, func(t *testing.T) {
				t.Parallel()
				dir, result := compileSmall(t, Options{Source: testkit.Path(t, testkit.ModelNamed(t, name).Files[0]), Engine: engine, Target: "x86-64"})
				library, rows := filepath.Join(dir, libraryName), testkit.Rows(300, result.Features)
				want, _ := drive(t, library, rows, result.Features, true)
				for _, cpu := range []string{"qemu64", "Nehalem", "Haswell"} {
					got, _ := driveUnder(t, []string{emulator, "-cpu", cpu}, library, rows, result.Features, true)
					equalBits(t, "margins on "+cpu, got, want)
				}
			})
		}
	}
}
