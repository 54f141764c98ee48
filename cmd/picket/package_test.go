//go:build cgo

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/packaging"
)

// must runs picket and fails the test unless it ends as it should.
func must(t *testing.T, code int, args ...string) result {
	t.Helper()
	r := picket(t, "", args...)
	if r.code != code {
		t.Fatalf("picket %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	return r
}

// TestPackageFromModelToAnswers: a model is compiled, packed, signed, and served by a daemon that trusts the signer alone.
func TestPackageFromModelToAnswers(t *testing.T) {
	_, artifact := compileFixture(t, trained)
	dir := t.TempDir()
	packages := filepath.Join(dir, "packages") // the first build makes it
	private, public := keyPair(t, dir, "signer")
	path := filepath.Join(packages, "sums-3.tar.gz")
	must(t, exitDone, "package", "build", artifact, "--name", "sums", "--version", "3", "-o", packages)
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(dir, "again.tar.gz")
	must(t, exitDone, "package", "build", artifact, "--name", "sums", "--version", "3", "-o", again)
	if second, err := os.ReadFile(again); err != nil || !bytes.Equal(first, second) {
		t.Errorf("the same input gave another package: %v", err)
	}
	must(t, exitFailed, "package", "build", artifact, "--name", "sums", "--version", "3", "-o", packages) // it is there

	sockets, _ := startDaemon(t, "--config", daemonConfig(t, dir, packages, public), "--state", filepath.Join(dir, "state"))
	load := []string{"--sockets", sockets, "load", "sums"}
	if r := must(t, exitPolicy, append(load, "sums")...); !strings.Contains(r.stderr, "not signed") {
		t.Errorf("an unsigned package: %s", r.stderr)
	}
	must(t, exitPolicy, append(load, artifact)...)
	must(t, exitDone, "package", "sign", path, "--key", private)
	must(t, exitDone, append(load, "sums@3")...)

	var e explanation
	if err := json.Unmarshal([]byte(must(t, exitDone, "--sockets", sockets, "explain", "sums", "--json").stdout), &e); err != nil {
		t.Fatal(err)
	}
	if p := e.Package; p == nil || p.Name != "sums" || p.Version != "3" || !strings.HasPrefix(p.Signer, "key sha256:") || len(p.Variants) != 1 || !p.Variants[0].Chosen {
		t.Errorf("the daemon says of the package: %+v", e.Package)
	}
	if r := must(t, exitDone, "--sockets", sockets, "explain", "sums"); !strings.Contains(r.stdout, "It comes from sums, version 3") {
		t.Errorf("explain says:\n%s", r.stdout)
	}

	// An older one is refused from now on, also after a restart, which is a matter of internal/store.
	old := filepath.Join(packages, "sums-2.tar.gz")
	must(t, exitDone, "package", "build", artifact, "--name", "sums", "--version", "2", "-o", old)
	must(t, exitDone, "package", "sign", old, "--key", private)
	if r := must(t, exitPolicy, "--sockets", sockets, "load", "older", old); !strings.Contains(r.stderr, "below version 3") {
		t.Errorf("an older version: %s", r.stderr)
	}

	// Rows whose answers are not what the model gives: signed, and still not loaded, and what serves goes on serving.
	wrong := filepath.Join(packages, "sums-4.tar.gz")
	wrongAnswers(t, artifact, wrong)
	must(t, exitDone, "package", "sign", wrong, "--key", private)
	if r := must(t, exitFailed, "--sockets", sockets, "load", "wrong", wrong); !strings.Contains(r.stderr, "does not give the answers") {
		t.Errorf("wrong answers: %s", r.stderr)
	}
	must(t, exitDone, "--sockets", sockets, "load", "three", "sums@3") // 4 never served, so 3 is not below it
}

func daemonConfig(t *testing.T, dir, packages, key string) string {
	t.Helper()
	path := filepath.Join(dir, "picketd.yaml")
	if err := os.WriteFile(path, []byte("packages: "+packages+"\ntrust: {keys: ["+key+"]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wrongAnswers makes a package that expects zeros of a model that gives others.
func wrongAnswers(t *testing.T, artifact, out string) {
	t.Helper()
	var s packageSummary
	sound := filepath.Join(t.TempDir(), "sound.tar.gz")
	if err := json.Unmarshal([]byte(must(t, exitDone, "package", "build", artifact, "--name", "sums", "--version", "4", "-o", sound, "--json").stdout), &s); err != nil {
		t.Fatal(err)
	}
	signature := &packaging.Signature{Inputs: s.Inputs, Outputs: s.Outputs}
	_, err := packaging.Build(t.Context(), packaging.BuildOptions{
		Name: "sums", Version: "4", Out: out, Variants: []packaging.BuildVariant{{Name: "any", Dir: artifact}},
		Signature: signature, Warmup: make([]byte, signature.WarmupBytes(2)), WarmupRows: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPackageVerify(t *testing.T) {
	dir := t.TempDir()
	model := filepath.Join(dir, "artifact")
	if err := os.MkdirAll(model, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(model, "weights.bin"), []byte("not a model of any kind"), 0o644); err != nil {
		t.Fatal(err)
	}
	private, public := keyPair(t, dir, "signer")
	_, other := keyPair(t, dir, "other")
	path := filepath.Join(dir, "p.tar.gz")
	if r := must(t, exitFailed, "package", "build", model, "--name", "p", "--version", "1", "-o", path); !strings.Contains(r.stderr, "running variant any") {
		t.Errorf("a folder that nothing can run: %s", r.stderr)
	}
	must(t, exitDone, "package", "build", model, "--name", "p", "--version", "1", "-o", path, "--no-warmup", "--needs", "avx512vbmi,glibc>=2.28")
	must(t, exitPolicy, "package", "verify", path, "--key", public)
	must(t, exitDone, "package", "sign", path, "--key", private)

	var v verified
	if err := json.Unmarshal([]byte(must(t, exitDone, "package", "verify", path, "--key", other, "--key", public, "--json").stdout), &v); err != nil {
		t.Fatal(err)
	}
	if !v.OK || v.Name != "p" || v.Version != "1" || v.Files != 1 || v.Signer == nil || len(v.Signer.Key) != 64 || v.Reason != "" {
		t.Errorf("verified: %+v", v)
	}
	r := must(t, exitPolicy, "package", "verify", path, "--key", other, "--json")
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil || v.OK || !strings.Contains(v.Reason, "none of the 1 that may sign") || !strings.Contains(r.stderr, "none of the 1 that may sign") {
		t.Errorf("refused: %+v, %v, %s", v, err, r.stderr)
	}
	config := daemonConfig(t, dir, dir, public)
	must(t, exitDone, "package", "verify", path, "--trust", config)
	revoked := filepath.Join(dir, "revoked")
	if err := os.WriteFile(revoked, []byte("package "+v.Digest), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, exitPolicy, "package", "verify", path, "--key", public, "--revoked", revoked)

	var s shown
	if err := json.Unmarshal([]byte(must(t, exitDone, "package", "show", path, "--json").stdout), &s); err != nil {
		t.Fatal(err)
	}
	if !s.Signed || s.Claim == "" || s.Digest != v.Digest || len(s.Variants) != 1 || s.Variants[0].Reason == "" || len(s.Variants[0].Requires.Features) != 1 {
		t.Errorf("shown: %+v", s)
	}

	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, exitPolicy, "package", "verify", path, "--key", public)
	must(t, exitFailed, "package", "sign", path, "--key", private)
	must(t, exitFailed, "package", "verify", filepath.Join(dir, "nothing"), "--key", public)
	for _, args := range [][]string{
		{"verify", path}, {"verify", path, "--key", public, "--trust", config}, {"verify", path, "--root", public}, {"verify", path, "--trust", config, "--name", "x"},
		{"sign", path}, {"sign", path, "--key", private, "--bundle", path}, {"sign", path, "--bundle", path, "--certificate-chain", path},
		{"build", model, "--name", "p", "--version", "1"}, {"build", model, "--name", "-", "--version", "1", "-o", path}, {"build", model, "--name", "p", "--version", "1-2", "-o", path},
		{"build", model, "--name", "p", "--version", "1", "-o", path, "--needs", "x=avx2"}, {"build", model, "--name", "p", "--version", "1", "-o", path, "--needs", "fast"},
	} {
		must(t, exitUsage, append([]string{"package"}, args...)...)
	}
}
