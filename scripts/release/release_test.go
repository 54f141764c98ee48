package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// keys writes a key and its public half, and names both.
func keys(t *testing.T) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	known, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	private, public = filepath.Join(dir, "key.pem"), filepath.Join(dir, "public.pem")
	write(t, private, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})))
	write(t, public, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: known})))
	return private, public
}

// A signed release is that as long as no file has changed, is missing or was added.
func TestSignature(t *testing.T) {
	private, public := keys(t)
	_, foreign := keys(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "picket.tar.gz"), "programs")
	write(t, filepath.Join(dir, "SHA256SUMS"), "digests")
	if err := run([]string{"sign", "--key", private, dir}, nil); err != nil {
		t.Fatal(err)
	}
	check := func(key, want string) {
		t.Helper()
		var out bytes.Buffer
		err := run([]string{"verify", "--key", key, dir}, &out)
		switch {
		case want == "" && err != nil:
			t.Errorf("a sound release is refused: %v", err)
		case want != "" && err == nil:
			t.Errorf("it is taken for sound: %s", out.String())
		case want != "" && !strings.Contains(err.Error(), want):
			t.Errorf("it is refused with %q, want something about %q", err, want)
		}
	}
	check(public, "")
	check(foreign, "none of the 1 that may sign")
	write(t, filepath.Join(dir, "more.deb"), "")
	check(public, "does not cover")
	if err := os.Remove(filepath.Join(dir, "more.deb")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "picket.tar.gz"), "Programs")
	check(public, "covers another")
	if err := os.Remove(filepath.Join(dir, "picket.tar.gz")); err != nil {
		t.Fatal(err)
	}
	check(public, "which it covers")
	if err := os.Remove(filepath.Join(dir, signatureName)); err != nil {
		t.Fatal(err)
	}
	check(public, "not signed")
}

// The list names what a program was linked from, here this test, and each Debian
// package, and is the same the second time.
func TestContents(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	debian := t.TempDir()
	write(t, filepath.Join(debian, "libc6"), "Package: libc6\nVersion: 2.36-9+deb12u14\nArchitecture: amd64\nDescription: a library\n Version: not this one\n")
	list := func() (document, string) {
		var out bytes.Buffer
		if err := run([]string{"sbom", "--name", "picket", "--version", "v1.2.3", "--debian", debian, "--python", "onnxruntime@1.32.0", self}, &out); err != nil {
			t.Fatal(err)
		}
		var d document
		if err := json.Unmarshal(out.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		return d, out.String()
	}
	d, text := list()
	if _, again := list(); again != text {
		t.Error("the second list differs from the first")
	}
	if d.Creation.Created != "2023-11-14T22:13:20Z" {
		t.Errorf("it was created at %s, not at the time given", d.Creation.Created)
	}
	purls, ids := map[string]string{}, map[string]bool{"SPDXRef-DOCUMENT": true}
	for _, p := range d.Packages {
		if ids[p.ID] {
			t.Errorf("%s stands for two parts", p.ID)
		}
		ids[p.ID] = true
		for _, r := range p.References {
			purls[r.Locator] = p.ID
		}
	}
	for _, want := range []string{"pkg:deb/debian/libc6@2.36-9+deb12u14?arch=amd64", "pkg:pypi/onnxruntime@1.32.0"} {
		if purls[want] == "" {
			t.Errorf("%s is not listed", want)
		}
	}
	found := false
	for purl := range purls {
		found = found || strings.HasPrefix(purl, "pkg:golang/stdlib@1.")
	}
	if !found {
		t.Error("the Go that has compiled it is not listed")
	}
	for _, r := range d.Relationships {
		if !ids[r.From] || !ids[r.To] {
			t.Errorf("%s %s %s is about a part that is not there", r.From, r.Kind, r.To)
		}
	}
}

// A program's oldest C library is one that this machine at least has.
func TestGlibc(t *testing.T) {
	sh, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run([]string{"glibc", sh}, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "2.") {
		t.Errorf("/bin/sh needs version %q of the C library", out.String())
	}
	if err := run([]string{"glibc", "release_test.go"}, &out); err == nil {
		t.Error("a file that is no program needs a C library")
	}
}
