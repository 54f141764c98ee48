package backendtest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
)

// engineErrors are the kinds with which Open may fail.
var engineErrors = []error{engine.ErrArtifact, engine.ErrHost, engine.ErrMemory, engine.ErrUnsupported}

// refuse opens the folder and wants an error of one of the kinds, as a sentence,
// with nothing left open. That the test goes on is part of it.
func refuse(t *testing.T, c Case, dir string, kinds ...error) {
	t.Helper()
	a := Artifact(t, dir)
	refuseArtifact(t, c, a, kinds...)
}

func refuseArtifact(t *testing.T, c Case, a *engine.Artifact, kinds ...error) {
	t.Helper()
	before := takeStock(t)
	m, err := c.Backend.Open(t.Context(), a, Options())
	if err == nil {
		t.Error("the artifact was opened, and closed with", m.Close())
		return
	}
	if m != nil {
		t.Error("Open gave a model and an error")
	}
	before.compare(t, 0)
	if len(kinds) == 0 {
		kinds = []error{engine.ErrArtifact}
	}
	if !slices.ContainsFunc(kinds, func(kind error) bool { return errors.Is(err, kind) }) {
		t.Errorf("the error is of the wrong kind, want one of %v: %v", kinds, err)
	}
	n := 0
	for _, kind := range engineErrors {
		if errors.Is(err, kind) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the error is of %d kinds at once: %v", n, err)
	}
	text := err.Error()
	if len(strings.Fields(text)) < 5 || len(text) > 600 || strings.ContainsAny(text, "\n\r\x00") || strings.HasSuffix(text, ".") {
		t.Errorf("the error is not a sentence: %q", text)
	}
}

// refuseOrRun opens the folder, and either wants a refusal or runs the model.
func refuseOrRun(t *testing.T, c Case, dir string) {
	t.Helper()
	m, err := c.Backend.Open(t.Context(), Artifact(t, dir), Options())
	if err != nil {
		refuse(t, c, dir, engine.ErrArtifact, engine.ErrUnsupported)
		return
	}
	r := NewRunner(t, m)
	r.Run(make([]float32, r.InRow))
	r.Close()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// changed is a copy of the artifact whose library or model file went through change.
func changed(t *testing.T, c Case, change func([]byte) []byte) string {
	t.Helper()
	dir := testkit.CopyDir(t, c.Dir)
	path := filepath.Join(dir, c.file())
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func refusesDamagedFiles(t *testing.T, c Case) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 64 {
		dir := changed(t, c, func(b []byte) []byte { return b[:len(b)*i/64] })
		if c.Library != "" {
			refuse(t, c, dir)
			continue
		}
		refuseOrRun(t, c, dir)
		refuseOrRun(t, c, changed(t, c, func(b []byte) []byte {
			for range 1 + i/8 {
				b[random.IntN(len(b))] ^= byte(1 + random.IntN(255))
			}
			return b
		}))
	}
	if c.Library != "" {
		refuse(t, c, changed(t, c, func(b []byte) []byte { return b[:len(b)-1] }))
	}
	for _, n := range []int{1, 4, 16, 64, 4096, 100_000} {
		noise := func([]byte) []byte {
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(random.Uint32())
			}
			return b
		}
		refuse(t, c, changed(t, c, noise))
		refuse(t, c, changed(t, c, func(b []byte) []byte { return append(slices.Clone(b[:20]), noise(nil)...) })) // up to the machine
	}
}

func refusesForeignLibraries(t *testing.T, c Case) {
	if c.Library == "" {
		t.Log("there is no library")
		return
	}
	t.Run("another machine", func(t *testing.T) {
		other := byte(183) // EM_AARCH64
		if runtime.GOARCH == "arm64" {
			other = 62 // EM_X86_64
		}
		refuse(t, c, changed(t, c, func(b []byte) []byte { b[18], b[19] = other, 0; return b }), engine.ErrHost)
		refuse(t, c, changed(t, c, func(b []byte) []byte { b[18], b[19] = 3, 0; return b }), engine.ErrHost) // EM_386
	})
	t.Run("an object file", func(t *testing.T) {
		refuse(t, c, changed(t, c, func(b []byte) []byte { b[16] = 1; return b }))
	})
	t.Run("a newer C library", func(t *testing.T) {
		found := false
		dir := changed(t, c, func(b []byte) []byte {
			if i := bytes.Index(b, []byte("GLIBC_2.")); i >= 0 {
				found = true
				b[i+len("GLIBC_")] = '9'
			}
			return b
		})
		if !found {
			t.Log("the library needs no version of the C library")
			return
		}
		refuse(t, c, dir, engine.ErrHost)
	})
	t.Run("other symbols", func(t *testing.T) {
		if c.Symbol == "" {
			t.Log("the backend looks for no symbol")
			return
		}
		other := []byte("x" + c.Symbol[1:])
		refuse(t, c, changed(t, c, func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(c.Symbol), other) }))
	})
}

func refusesOddFolders(t *testing.T, c Case) {
	library := func(dir string) string { return filepath.Join(dir, c.file()) }
	check := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name  string
		alter func(t *testing.T, dir string)
	}{
		{"no library", func(t *testing.T, dir string) { check(t, os.Remove(library(dir))) }},
		{"two libraries", func(t *testing.T, dir string) {
			data, err := os.ReadFile(library(dir))
			check(t, err)
			check(t, os.WriteFile(filepath.Join(dir, "another"+filepath.Ext(c.file())), data, 0o600))
		}},
		{"two metadata files", func(t *testing.T, dir string) {
			check(t, os.WriteFile(filepath.Join(dir, "a.meta"), nil, 0o600))
			check(t, os.WriteFile(filepath.Join(dir, "b.meta"), nil, 0o600))
		}},
		{"two graphs", func(t *testing.T, dir string) {
			if c.Library == "" { // what else lies beside a model is nobody's graph
				check(t, os.Remove(library(dir)))
			}
			check(t, os.WriteFile(filepath.Join(dir, "a.json"), nil, 0o600))
			check(t, os.WriteFile(filepath.Join(dir, "b.json"), nil, 0o600))
		}},
		{"an empty folder", func(t *testing.T, dir string) {
			entries, err := os.ReadDir(dir)
			check(t, err)
			for _, e := range entries {
				check(t, os.RemoveAll(filepath.Join(dir, e.Name())))
			}
		}},
		{"a folder for a library", func(t *testing.T, dir string) {
			check(t, os.Remove(library(dir)))
			check(t, os.Mkdir(library(dir), 0o700))
		}},
		{"a pipe for a library", func(t *testing.T, dir string) {
			check(t, os.Remove(library(dir)))
			check(t, unix.Mkfifo(library(dir), 0o600))
		}},
		{"a link out of the folder", func(t *testing.T, dir string) {
			check(t, os.Remove(library(dir)))
			check(t, os.Symlink(library(c.Dir), library(dir)))
		}},
		{"a link to itself", func(t *testing.T, dir string) {
			check(t, os.Remove(library(dir)))
			check(t, os.Symlink(c.file(), library(dir)))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := testkit.CopyDir(t, c.Dir)
			tc.alter(t, dir)
			refuse(t, c, dir)
		})
	}
	for _, tc := range []struct {
		name  string
		alter func(t *testing.T, path string)
	}{
		{"a library gone since it was listed", func(*testing.T, string) {}},
		{"a library become a pipe since it was listed", func(t *testing.T, path string) { check(t, unix.Mkfifo(path, 0o600)) }},
		{"a library become a link since it was listed", func(t *testing.T, path string) { check(t, os.Symlink(library(c.Dir), path)) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := testkit.CopyDir(t, c.Dir)
			a := Artifact(t, dir)
			check(t, os.Remove(library(dir)))
			tc.alter(t, library(dir))
			refuseArtifact(t, c, a)
		})
	}
}

func refusesBadMetadata(t *testing.T, c Case) {
	foreign := hw.AArch64
	if runtime.GOARCH == "arm64" {
		foreign = hw.X86V1
	}
	for _, tc := range []struct {
		name, text string
		kind       error
	}{
		{"no JSON", "Model: {}", engine.ErrArtifact},
		{"cut off", `{"Model": {"Inputs": [`, engine.ErrArtifact},
		{"nested too deep", strings.Repeat("[", 100_000), engine.ErrArtifact},
		{"too long", strings.Repeat(" ", 5<<20), engine.ErrArtifact},
		{"other types", `{"Model": {"Inputs": "data"}}`, engine.ErrArtifact},
		{"huge dimensions", `{"Model": {"Inputs": [{"name": "data", "dtype": "float32", "shape": [9223372036854775807, 9223372036854775807]}]}}`, engine.ErrArtifact},
		{"another device", `{"Requirements": {"TargetDeviceType": "gpu"}}`, engine.ErrHost},
		{"a processor of the future", `{"Picket": {"CPU": "x86-64-v9"}}`, engine.ErrArtifact},
		{"another processor", `{"Picket": {"CPU": "` + string(foreign) + `"}}`, engine.ErrHost},
		{"a transform", `{"DataTransform": {"Input": {"ColumnTransform": []}}}`, engine.ErrUnsupported},
	} {
		if c.Library == "" && (errors.Is(tc.kind, engine.ErrHost) || strings.Contains(tc.text, `"CPU"`)) {
			continue // data is built for no host
		}
		t.Run(tc.name, func(t *testing.T) {
			dir := testkit.CopyDir(t, c.Dir)
			names, err := filepath.Glob(filepath.Join(dir, "*.meta"))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "compiled.meta"), []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			refuse(t, c, dir, tc.kind)
		})
	}
}
