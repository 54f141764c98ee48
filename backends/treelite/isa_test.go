//go:build cgo && linux && amd64

package treelite_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/treelite"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
)

// lesser is a host without AVX-512, whatever this one has.
func lesser() engine.OpenOptions {
	return engine.OpenOptions{Threads: 1, Host: &hw.Host{CPU: hw.CPU{Arch: "amd64", Level: hw.X86V2, Features: hw.FeaturesOf(hw.SSE42)}}}
}

// A library whose linker wrote what it needs is refused in a sentence, before its code runs.
func TestRefusesALibraryForMoreThanTheHost(t *testing.T) {
	dir := specimen(t, "", "GENERATION=1")
	output, err := exec.Command("cc", "-shared", "-fPIC", "-w", "-DGENERATION=1", "-Wl,-z,x86-64-v4",
		"-o", filepath.Join(dir, "compiled.so"), filepath.Join("testdata", "specimen.c")).CombinedOutput()
	if err != nil {
		t.Fatalf("linking: %v\n%s", err, output)
	}
	m, err := treelite.New().Open(t.Context(), backendtest.Artifact(t, dir), lesser())
	if err == nil {
		m.Close()
		t.Fatal("the artifact was opened")
	}
	if !errors.Is(err, engine.ErrHost) || !strings.Contains(err.Error(), "compiled.so needs an x86-64-v4 processor, this host has x86-64-v2") {
		t.Error(err)
	}
}

// An artifact that merely names a target device is opened, because its code may well run; the log has the sentence in case
// it does not.
func TestDoubtsATargetDeviceAboveTheHost(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	m, err := treelite.New().Open(t.Context(), backendtest.Artifact(t, testkit.Path(t, "treelite/fraud-tl0.93")), lesser())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if want := "compiled.so was compiled for target device ML_C5"; strings.Count(log.String(), want) != 1 {
		t.Errorf("the log does not say %q once: %s", want, log.String())
	}
}
