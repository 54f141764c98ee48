package store

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/packaging"
	"github.com/picket-ml/picket/packaging/signing"
)

// spy is in the place of the loaders: it counts what it is shown, and can do nothing with it.
type spy struct{ looked, opened atomic.Int64 }

func (s *spy) Name() string         { return "spy" }
func (s *spy) Probe(*hw.Host) error { return nil }
func (s *spy) Match(*engine.Artifact) int {
	s.looked.Add(1)
	return 100
}
func (s *spy) Open(context.Context, *engine.Artifact, engine.OpenOptions) (engine.Model, error) {
	s.opened.Add(1)
	return nil, fmt.Errorf("%w: a spy runs nothing", engine.ErrUnsupported)
}

// bank is a host and those whom it trusts.
type bank struct {
	dir      string // of all that follows
	key      *ecdsa.PrivateKey
	root     *x509.Certificate
	rootKey  *ecdsa.PrivateKey
	trust    TrustOptions
	host     *hw.Host
	now      time.Time
	log      bytes.Buffer
	unsigned bool
}

var today = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func newBank(t testing.TB) *bank {
	t.Helper()
	b := &bank{dir: t.TempDir(), key: newKey(t), rootKey: newKey(t), now: today, host: &hw.Host{CPU: hw.CPU{Arch: "amd64", Level: hw.X86V3}, Glibc: "2.36"}}
	b.root = b.certify(t, x509.Certificate{Subject: pkix.Name{CommonName: "Root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: today.AddDate(10, 0, 0)}, b.rootKey)
	b.trust = TrustOptions{Keys: []string{b.file(t, "key.pem", publicPEM(t, b.key))}, Roots: []string{b.file(t, "root.pem", certificatePEM(b.root))}, Names: []string{"Models"}}
	return b
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicPEM(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func certificatePEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// certify makes a certificate of key by the root, or the root itself.
func (b *bank) certify(t testing.TB, template x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber, template.NotBefore = big.NewInt(time.Now().UnixNano()), today.AddDate(0, 0, -1)
	parent := b.root
	if parent == nil {
		parent = &template
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, &key.PublicKey, b.rootKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// leaf is a certificate for signing, valid for a day.
func (b *bank) leaf(t testing.TB, name string, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	return b.certify(t, x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotAfter: today.AddDate(0, 0, 1), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}, key)
}

// file makes a file in the bank's folder and gives its path.
func (b *bank) file(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(b.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
		t.Fatal(err)
	}
	return path
}

// build makes a package of one file with that content, unsigned.
func (b *bank) build(t testing.TB, name, version, content string) string {
	t.Helper()
	artifact := filepath.Dir(b.file(t, "artifact-"+version+"/compiled.so", []byte(content)))
	path := filepath.Join(b.dir, "packages", packaging.FileName(name, version))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := packaging.Build(t.Context(), packaging.BuildOptions{
		Name: name, Version: version, Out: path, Force: true, Variants: []packaging.BuildVariant{{Name: "any", Dir: artifact}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// sign signs the package at path, by a key alone or with certificates.
func (b *bank) sign(t testing.TB, path string, key *ecdsa.PrivateKey, certificates ...*x509.Certificate) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a, err := packaging.Open(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	bundle, err := signing.Sign("x", signing.FilesOf(a.ManifestBytes, a.Manifest), key, certificates)
	if err != nil {
		t.Fatal(err)
	}
	return b.attach(t, path, bundle)
}

// attach puts a signature into the package at path.
func (b *bank) attach(t testing.TB, path string, bundle []byte) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := packaging.Attach(t.Context(), f, path, true, bundle); err != nil {
		t.Fatal(err)
	}
	return path
}

// store starts the bank's host again: what it remembers is in its state directory.
func (b *bank) store(t testing.TB) *Store {
	t.Helper()
	var trust *Trust
	if len(b.trust.Keys)+len(b.trust.Roots)+len(b.trust.OldPackages) > 0 {
		var err error
		if trust, err = NewTrust(b.trust); err != nil {
			t.Fatal(err)
		}
	}
	s, err := New(Options{
		State: filepath.Join(b.dir, "state"), Packages: filepath.Join(b.dir, "packages"), Trust: trust, Host: b.host, Unsigned: b.unsigned,
		Now: func() time.Time { return b.now }, Log: slog.New(slog.NewTextHandler(&b.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// load has an engine whose only loader is a spy load url, and tells whether the spy saw it. The spy cannot run it, so it is
// said here whether the load would have been accepted.
func (b *bank) load(t testing.TB, url string) (seen bool, err error) {
	t.Helper()
	s := b.store(t)
	watcher := &spy{}
	e, err := engine.New(engine.Options{Host: b.host, Source: s, Backends: []engine.Backend{watcher}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(context.Background())
	_, err = e.Load(t.Context(), "model", url, engine.ModelOptions{})
	seen = watcher.looked.Load()+watcher.opened.Load() > 0
	if seen != errors.Is(err, engine.ErrUnsupported) {
		t.Errorf("the spy saw it: %v, and loading said %v", seen, err)
	}
	return seen, err
}

// accept is what the engine does when a model serves.
func (b *bank) accept(t testing.TB, url string) {
	t.Helper()
	a, err := b.store(t).Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Package.Accept(); err != nil {
		t.Fatal(err)
	}
}

// refused makes sure that url is refused for reasons of trust, and that no loader saw anything of it.
func (b *bank) refused(t testing.TB, what, url, says string) {
	t.Helper()
	seen, err := b.load(t, url)
	if seen || !errors.Is(err, engine.ErrTrust) || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: seen by a loader: %v; %v, want %v that says %q", what, seen, err, engine.ErrTrust, says)
	}
	if strings.Contains(fmt.Sprint(err), b.dir+"/state") {
		t.Errorf("%s: the error names a path of the daemon's: %v", what, err)
	}
}

func (b *bank) loads(t testing.TB, what, url string) {
	t.Helper()
	if seen, err := b.load(t, url); !seen {
		t.Errorf("%s: %v, want a loader to see it", what, err)
	}
}

func TestSignedPackages(t *testing.T) {
	b := newBank(t)
	path := b.sign(t, b.build(t, "fraud", "3", "code"), b.key)
	for _, url := range []string{path, "fraud", "fraud@3"} {
		b.loads(t, url, url)
		a, err := b.store(t).Open(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := a.ReadFile("compiled.so", 100); err != nil || string(data) != "code" {
			t.Errorf("%s: it holds %q, %v", url, data, err)
		}
		if len(a.Files) != 1 || !strings.HasPrefix(a.Dir, b.dir+"/state/unpacked/") || a.Package.Version != "3" || !strings.HasPrefix(a.Package.Signer, "key sha256:") {
			t.Errorf("%s: %v in %s, %+v", url, a.Files, a.Dir, a.Package)
		}
		a.Close()
	}
	if !strings.Contains(b.log.String(), "package verified") {
		t.Errorf("the log does not tell: %s", &b.log)
	}
	for _, url := range []string{"fraud@4", "other@1"} {
		if _, err := b.load(t, url); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("%s: %v", url, err)
		}
	}
	b.sign(t, b.build(t, "fraud", "10", "newer"), b.key)
	a, err := b.store(t).Open(t.Context(), "fraud")
	if err != nil || a.Package.Version != "10" {
		t.Fatalf("the highest of 3 and 10 is %+v, %v", a, err)
	}
	a.Close()
	// A file under another version's name.
	if err := os.Rename(path, filepath.Join(filepath.Dir(path), "fraud-99.tar.gz")); err != nil {
		t.Fatal(err)
	}
	b.refused(t, "renamed", "fraud", "its name must say so")
}

func TestRefusedSignatures(t *testing.T) {
	b := newBank(t)
	unsigned := b.build(t, "fraud", "1", "code")
	b.refused(t, "not signed", unsigned, "it is not signed")
	path := b.build(t, "fraud", "2", "code")
	b.refused(t, "by an unknown key", b.sign(t, path, newKey(t)), "none of the 1 that may sign")
	b.refused(t, "by a certificate of another name", b.sign(t, path, b.key, b.leaf(t, "Others", b.key)), "none that may sign")
	b.refused(t, "by a certificate of nobody's", b.sign(t, path, b.key, newBank(t).leaf(t, "Models", b.key)), "no root that is trusted")

	// The signature of another package.
	other := b.sign(t, b.build(t, "other", "7", "other code"), b.key)
	f, err := os.Open(other)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a, err := packaging.Open(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	b.refused(t, "with the signature of another package", b.attach(t, path, a.Bundle), "for other files")
	b.refused(t, "with a signature that is none", b.attach(t, path, []byte("{}")), "unusable signature")

	// A folder of which nobody vouches.
	b.refused(t, "a folder", filepath.Join(b.dir, "artifact-1"), "not signed")
	b.unsigned = true
	b.loads(t, "a folder, with --unsigned", filepath.Join(b.dir, "artifact-1"))
	b.loads(t, "not signed, with --unsigned", unsigned)
	b.refused(t, "signed badly, with --unsigned", path, "unusable signature")
	b.trust = TrustOptions{}
	b.loads(t, "without trust, with --unsigned", path)
	b.unsigned = false
	b.refused(t, "without trust", other, "trusts nobody")
}

func TestRevoked(t *testing.T) {
	b := newBank(t)
	b.trust.RevokedFile = b.file(t, "revoked", nil)
	byKey := b.sign(t, b.build(t, "fraud", "1", "code"), b.key)
	signer := newKey(t)
	leaf := b.leaf(t, "Models", signer)
	byCertificate := b.sign(t, b.build(t, "other", "1", "code"), signer, leaf)
	s := b.store(t)
	a, err := s.Open(t.Context(), byKey)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	b.loads(t, "before", byCertificate)
	hint, err := signing.KeyHint(&b.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	b.file(t, "revoked", []byte("key sha256:"+hint+" # lost"))
	if _, err := s.Open(t.Context(), byKey); !errors.Is(err, engine.ErrTrust) {
		t.Errorf("a store that had read the list before: %v", err)
	}
	b.refused(t, "a revoked key", byKey, "revoked")
	b.loads(t, "another signer", byCertificate)
	for what, digits := range map[string]string{"certificate": signing.Fingerprint(leaf), "certificate of the root": signing.Fingerprint(b.root)} {
		b.file(t, "revoked", []byte("certificate sha256:"+digits))
		b.refused(t, what, byCertificate, "revoked")
	}
	b.file(t, "revoked", []byte("package "+a.Package.Digest))
	b.refused(t, "a revoked package", byKey, "the package was revoked")
	b.unsigned = true
	b.refused(t, "a revoked package, with --unsigned", byKey, "the package was revoked")
	b.file(t, "revoked", []byte("key of uncle"))
	if _, err := s.Open(t.Context(), byCertificate); !errors.Is(err, engine.ErrTrust) || !strings.Contains(err.Error(), "damaged, so nothing is trusted") {
		t.Errorf("a damaged list: %v", err)
	}
	if err := os.Remove(filepath.Join(b.dir, "revoked")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), byCertificate); !errors.Is(err, engine.ErrTrust) || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("without the list: %v", err)
	}
}

func TestExpiredCertificates(t *testing.T) {
	b := newBank(t)
	key := newKey(t)
	path := b.sign(t, b.build(t, "fraud", "1", "code"), key, b.leaf(t, "Models", key))
	fresh := b.sign(t, b.build(t, "other", "1", "code"), key, b.leaf(t, "Models", key))
	b.accept(t, path)
	b.now = today.AddDate(1, 0, 0)
	b.loads(t, "one that ran here before", path)
	b.refused(t, "one that did not", fresh, "expired at 2026-11-27")
	b.trust.Expired = ExpiredRefused
	b.refused(t, "one that ran here before, by a stricter rule", path, "expired at 2026-11-27")
	b.trust.Expired = ExpiredAllowed
	b.loads(t, "one that did not, by a laxer rule", fresh)

	// A clock that was set back: what is known to be past stays past.
	b.trust.Expired = ""
	b.now = time.Unix(0, 0)
	b.loads(t, "with a clock of 1970", path)
	b.loads(t, "with a clock of 1970, of a signer that is valid at the latest time known", fresh)
	if err := os.RemoveAll(filepath.Join(b.dir, "state")); err != nil {
		t.Fatal(err)
	}
	b.refused(t, "with a clock of 1970 and no memory", path, "set the clock")

	// A clock that was ahead, and is right again.
	b.now = today
	b.loads(t, "with no memory", fresh)
	b.file(t, "state/"+ledgerFile, []byte(`{"picket_accepted": 1, "clock": "2031-01-01T00:00:00Z", "highest": {}, "accepted": {}}`))
	b.refused(t, "of a signer that is valid now, by a clock that was ahead", fresh, "it is 2031-01-01 00:00 UTC now")
	b.refused(t, "of a signer that is valid now, by a clock that was ahead", fresh, "the clock in accepted.json")
	b.file(t, "state/"+ledgerFile, []byte(`{"picket_accepted": 1, "clock": "2025-01-01T00:00:00Z", "highest": {}, "accepted": {}}`))
	b.loads(t, "with a clock that was corrected", fresh)
}

func TestRollback(t *testing.T) {
	b := newBank(t)
	three := b.sign(t, b.build(t, "fraud", "3", "three"), b.key)
	ten := b.sign(t, b.build(t, "fraud", "10", "ten"), b.key)
	b.loads(t, "before anything ran", three)
	// It was loaded and did not serve: the spy cannot run it. So nothing is above it.
	b.loads(t, "the newer one", ten)
	b.loads(t, "the older one, as the newer one never served", three)
	b.accept(t, ten)
	b.refused(t, "an older one", three, "below version 10")
	b.loads(t, "the same", ten)
	b.accept(t, ten)
	again := b.sign(t, b.build(t, "fraud", "10", "ten, built otherwise"), b.key)
	b.refused(t, "another of the same version", again, "another package than the version 10")
	b.trust.Rollback = []string{"fraud@3"}
	b.loads(t, "an older one that is allowed", three)
	b.accept(t, three)
	b.trust.Rollback = nil
	b.refused(t, "an older one that was allowed once", three, "below version 10")
	if !strings.Contains(b.log.String(), "opening an older package") {
		t.Error("the log does not tell of it")
	}
	b.file(t, "state/"+ledgerFile, []byte("{}"))
	b.refused(t, "with a damaged memory", ten, "is damaged")
}

// TestVouched: a package that somebody vouches for may be older and lie anywhere, must be that very package, and must be
// signed as ever.
func TestVouched(t *testing.T) {
	b := newBank(t)
	three := b.sign(t, b.build(t, "fraud", "3", "three"), b.key)
	ten := b.sign(t, b.build(t, "fraud", "10", "ten"), b.key)
	b.accept(t, ten)
	b.refused(t, "an older one", three, "below version 10")
	s := b.store(t)
	defer s.Close()
	open := func(what, says string) {
		t.Helper()
		// However the place is written.
		for _, url := range []string{three, filepath.Dir(three) + "/./x/../" + filepath.Base(three)} {
			a, err := s.Open(t.Context(), url)
			if err == nil {
				_ = a.Close() // it was only read
			}
			if (err == nil) != (says == "") || err != nil && (!errors.Is(err, engine.ErrTrust) || !strings.Contains(err.Error(), says)) {
				t.Errorf("%s, as %s: %v", what, url, err)
			}
		}
	}
	digest := digestOf(t, three)
	s.Vouch(three, digest, false)
	open("vouched for, and not as an older one", "below version 10")
	s.Vouch(three, digestOf(t, ten), true)
	open("another is vouched for", "must have")
	s.Vouch(three, digest, true)
	open("vouched for as an older one", "")
	b.sign(t, b.build(t, "fraud", "3", "three"), newKey(t))
	open("signed by somebody else", "may sign")
	b.build(t, "fraud", "3", "three")
	open("not signed", "not signed")
}

func digestOf(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a, err := packaging.Open(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	return a.Digest()
}

// TestTamperedPackages flips every bit of a package of less than 4 KiB, signature and all.
func TestTamperedPackages(t *testing.T) {
	b := newBank(t)
	path := b.sign(t, b.build(t, "fraud", "1", strings.Repeat("code ", 50)), b.key)
	data, err := os.ReadFile(path)
	if err != nil || len(data) > 4<<10 {
		t.Fatalf("the package has %d bytes, %v", len(data), err)
	}
	flips(t, b, path, data, func(yield func(bit int) bool) {
		for bit := 0; bit < len(data)*8; bit += step {
			if !yield(bit) {
				return
			}
		}
	})
}

// TestTamperedLargePackages flips 10,000 bits of one that does not compress.
func TestTamperedLargePackages(t *testing.T) {
	b := newBank(t)
	code := make([]byte, 100<<10)
	_, _ = rand.Read(code) // it never fails
	path := b.sign(t, b.build(t, "fraud", "1", string(code)), b.key)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flips(t, b, path, data, func(yield func(bit int) bool) {
		for range 10_000 / step {
			bit, err := rand.Int(rand.Reader, big.NewInt(int64(len(data)*8)))
			if err != nil {
				t.Error(err)
			}
			if !yield(int(bit.Int64())) {
				return
			}
		}
	})
}

// flips loads the package with each of those bits changed. None may be seen by the loader.
func flips(t *testing.T, b *bank, path string, data []byte, bits func(func(int) bool)) {
	t.Helper()
	s, watcher := b.store(t), &spy{}
	e, err := engine.New(engine.Options{Host: b.host, Source: s, Backends: []engine.Backend{watcher}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(context.Background())
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	count := 0
	for bit := range bits {
		at := bit / 8
		if _, err := f.WriteAt([]byte{data[at] ^ 1<<(bit%8)}, int64(at)); err != nil {
			t.Fatal(err)
		}
		_, err := e.Load(t.Context(), "model", path, engine.ModelOptions{})
		if !errors.Is(err, engine.ErrTrust) && !errors.Is(err, engine.ErrArtifact) {
			t.Errorf("bit %d of byte %d: %v", bit%8, at, err)
		}
		if _, err := f.WriteAt(data[at:at+1], int64(at)); err != nil {
			t.Fatal(err)
		}
		count++
	}
	if watcher.looked.Load()+watcher.opened.Load() > 0 {
		t.Errorf("of %d changed packages the loader saw %d", count, watcher.looked.Load())
	}
	if _, err := e.Load(t.Context(), "model", path, engine.ModelOptions{}); !errors.Is(err, engine.ErrUnsupported) {
		t.Errorf("as it was it is refused: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(b.dir, "state/unpacked/.unpack-*")); len(left) > 0 {
		t.Errorf("half unpacked: %q", left)
	}
	t.Logf("%d bits", count)
}

// TestSwappedAfterVerification: the file at the path is another one by the time the loader looks.
func TestSwappedAfterVerification(t *testing.T) {
	b := newBank(t)
	path := b.sign(t, b.build(t, "fraud", "1", "good code"), b.key)
	evil := b.build(t, "evil", "1", "evil code")
	a, err := b.store(t).Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := os.Rename(evil, path); err != nil {
		t.Fatal(err)
	}
	if data, err := a.ReadFile("compiled.so", 100); err != nil || string(data) != "good code" {
		t.Errorf("the loader reads %q, %v", data, err)
	}
	b.refused(t, "the other one", path, "not signed")
}

// TestDamagedUnpacked: what lies unpacked is hashed before it is used, and made again.
func TestDamagedUnpacked(t *testing.T) {
	b := newBank(t)
	path := b.sign(t, b.build(t, "fraud", "1", "good code"), b.key)
	a, err := b.store(t).Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	dir := a.Dir
	a.Close()
	for what, damage := range map[string]func() error{
		"changed": func() error { return os.WriteFile(dir+"/compiled.so", []byte("evil code"), 0o644) },
		"empty":   func() error { return os.Truncate(dir+"/compiled.so", 0) },
		"missing": func() error { return os.Remove(dir + "/compiled.so") },
		"a link": func() error {
			return errors.Join(os.Remove(dir+"/compiled.so"), os.Symlink("/etc/passwd", dir+"/compiled.so"))
		},
		"a pipe": func() error {
			return errors.Join(os.Remove(dir+"/compiled.so"), syscall.Mkfifo(dir+"/compiled.so", 0o644))
		},
		"no folder":    func() error { return os.RemoveAll(dir) },
		"an empty one": func() error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)) },
	} {
		if err := errors.Join(os.Chmod(dir, 0o755), damage()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		a, err := b.store(t).Open(t.Context(), path)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if data, err := a.ReadFile("compiled.so", 100); err != nil || string(data) != "good code" {
			t.Errorf("%s: it holds %q, %v", what, data, err)
		}
		a.Close()
	}
}

// TestBaselineOfPackage: what a package says of its training set comes with it, and is hashed as its model is.
func TestBaselineOfPackage(t *testing.T) {
	b := newBank(t)
	dir := filepath.Join(b.dir, "with-baseline")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "compiled.so"), []byte("code"), 0o644)); err != nil {
		t.Fatal(err)
	}
	o := packaging.BuildOptions{
		Name: "fraud", Version: "7", Out: filepath.Join(b.dir, "fraud-7.tar.gz"), Variants: []packaging.BuildVariant{{Name: "any", Dir: dir}},
		Signature: &packaging.Signature{Inputs: []packaging.Tensor{{Name: "x", DType: "FP32", Shape: []int64{-1, 1}}}, Outputs: []packaging.Tensor{{Name: "y", DType: "FP32", Shape: []int64{-1, 1}}}},
		Baseline:  &packaging.Baseline{Statistics: []byte("statistics"), Constraints: []byte("constraints")},
	}
	if _, err := packaging.Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	path := b.sign(t, o.Out, b.key)
	for _, damaged := range []bool{false, true} {
		a, err := b.store(t).Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if string(a.Package.Statistics) != "statistics" || a.Has(packaging.StatisticsName) {
			t.Errorf("the package says %q, and the model has the files %v", a.Package.Statistics, a.Files)
		}
		if !damaged {
			file := filepath.Join(a.Dir, packaging.StatisticsName)
			if err := errors.Join(os.Chmod(file, 0o644), os.WriteFile(file, []byte("lies"), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		a.Close()
	}
}

// TestHalfDone: what a process that was killed left goes, what another one is at work on stays.
func TestHalfDone(t *testing.T) {
	b := newBank(t)
	b.store(t)
	dead, busy := filepath.Join(b.dir, "state/unpacked/.unpack-dead"), filepath.Join(b.dir, "state/unpacked/.unpack-busy")
	b.file(t, "state/unpacked/.unpack-dead/variants/x/compiled.so", []byte("half"))
	if err := errors.Join(os.Mkdir(busy, 0o700), os.Chmod(dead+"/variants/x", 0o555)); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Open(busy)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	b.store(t)
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left: %v", err)
	}
	if _, err := os.Stat(busy); err != nil {
		t.Errorf("what is being made: %v", err)
	}
}

// TestFoldersOfPackages: one that an old client has unpacked is judged, copied, and opened from the copy.
func TestFoldersOfPackages(t *testing.T) {
	b := newBank(t)
	path := b.sign(t, b.build(t, "fraud", "1", "good code"), b.key)
	folder := filepath.Join(b.dir, "unpacked")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a, err := packaging.Open(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := errors.Join(a.Unpack(t.Context(), root), os.Chmod(folder, 0o755)); err != nil {
		t.Fatal(err)
	}
	b.refused(t, "without a signature", folder, "not signed")
	b.file(t, "unpacked/"+packaging.SignatureName, a.Bundle)
	opened, err := b.store(t).Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	opened.Close()
	if !strings.HasPrefix(opened.Dir, b.dir+"/state/") {
		t.Errorf("it was opened in %s", opened.Dir)
	}
	b.file(t, "unpacked/more", nil)
	if err := os.RemoveAll(filepath.Join(b.dir, "state")); err != nil {
		t.Fatal(err)
	}
	if seen, err := b.load(t, folder); seen || !errors.Is(err, engine.ErrArtifact) {
		t.Errorf("with a file more: %v", err)
	}
	if err := errors.Join(os.Chmod(folder+"/"+packaging.ManifestName, 0o644), os.WriteFile(folder+"/"+packaging.ManifestName, []byte("{}"), 0o644)); err != nil {
		t.Fatal(err)
	}
	b.unsigned = true
	if seen, err := b.load(t, folder); seen || !errors.Is(err, engine.ErrArtifact) {
		t.Errorf("a signed folder without its manifest, with --unsigned: %v", err)
	}
}

func TestOldPackages(t *testing.T) {
	b := newBank(t)
	// A tar of other headers than ours.
	path := filepath.Join(b.dir, "old.tar.gz")
	if err := os.WriteFile(path, oldArchive(t), 0o644); err != nil {
		t.Fatal(err)
	}
	seen, err := b.load(t, path)
	if seen || err == nil || !strings.Contains(err.Error(), "trust.packages") {
		t.Errorf("one that nobody named: %v", err)
	}
	b.trust.OldPackages = []string{"sha256:" + strings.Repeat("0", 64)}
	b.refused(t, "another was named", path, "none of trust.packages")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	digest, err := packaging.DigestOfFile(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	b.trust.OldPackages = append(b.trust.OldPackages, digest)
	for range 2 { // unpacked, and as it lies
		b.loads(t, "one that is named", path)
	}
	if !strings.Contains(b.log.String(), "cannot be checked") {
		t.Errorf("the log does not tell: %s", &b.log)
	}
	a, err := b.store(t).Open(t.Context(), path)
	if err != nil || a.Package.Name != "old" || a.Package.Digest != digest {
		t.Fatalf("%+v, %v", a, err)
	}
	defer a.Close()
	if err := errors.Join(os.Chmod(a.Dir, 0o755), os.Chmod(a.Dir+"/compiled.so", 0o644), os.WriteFile(a.Dir+"/compiled.so", []byte("evil"), 0o644)); err != nil {
		t.Fatal(err)
	}
	again, err := b.store(t).Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if data, err := again.ReadFile("compiled.so", 100); err != nil || string(data) != "old code" {
		t.Errorf("it holds %q, %v", data, err)
	}
	b.trust.RevokedFile = b.file(t, "revoked", []byte("package "+digest))
	b.refused(t, "revoked", path, "revoked")
}

func TestVariantsForTheHost(t *testing.T) {
	b := newBank(t)
	var variants []packaging.BuildVariant
	for name, r := range map[string]packaging.Requires{
		"base": {Arch: "amd64", Level: "x86-64-v1"}, "fast": {Arch: "amd64", Level: "x86-64-v3", Glibc: "2.28"}, "faster": {Arch: "amd64", Level: "x86-64-v4"},
		"new": {Arch: "amd64", Level: "x86-64-v3", Glibc: "2.99", Features: []string{"avx2", "fma"}}, "arm": {Arch: "arm64"}, "gpu": {Arch: "amd64", GPU: &packaging.GPU{ComputeCapability: "7.5"}},
	} {
		v := packaging.BuildVariant{Name: name, Dir: filepath.Dir(b.file(t, "v/"+name+"/compiled.so", []byte(name))), Requires: r}
		variants = append(variants, v)
		if name == "base" { // the first lies at the top
			variants[0], variants[len(variants)-1] = variants[len(variants)-1], variants[0]
		}
	}
	path := b.file(t, "packages/many-1.tar.gz", nil)
	if _, err := packaging.Build(t.Context(), packaging.BuildOptions{Name: "many", Version: "1", Out: path, Force: true, Variants: variants}); err != nil {
		t.Fatal(err)
	}
	b.sign(t, path, b.key)
	for want, change := range map[string]func(*hw.Host){
		"fast":   func(*hw.Host) {},
		"faster": func(h *hw.Host) { h.CPU.Level = hw.X86V4 },
		"base":   func(h *hw.Host) { h.Glibc, h.GlibcReason = "", "no glibc was found" },
		"arm":    func(h *hw.Host) { h.CPU.Arch, h.CPU.Level = "arm64", hw.AArch64 },
		"gpu":    func(h *hw.Host) { h.GPUs = []hw.GPU{{ComputeCapability: "6.1"}, {ComputeCapability: "8.0"}} },
		"new":    func(h *hw.Host) { h.Glibc, h.CPU.Features = "3.0", hw.FeaturesOf(hw.AVX2, hw.FMA) },
	} {
		host := hw.Host{CPU: hw.CPU{Arch: "amd64", Level: hw.X86V3}, Glibc: "2.36", GPUReason: "there is none"}
		change(&host)
		b.host = &host
		a, err := b.store(t).Open(t.Context(), path)
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		data, err := a.ReadFile("compiled.so", 100)
		if err != nil || string(data) != want || len(a.Package.Variants) != len(variants) {
			t.Errorf("it holds %q, want %q: %v", data, want, err)
		}
		for _, v := range a.Package.Variants {
			if v.Chosen != (v.Name == want) || v.Reason == "" {
				t.Errorf("%s: %+v", want, v)
			}
		}
		a.Close()
	}
	b.host = &hw.Host{CPU: hw.CPU{Arch: "riscv64"}}
	if seen, err := b.load(t, path); seen || !errors.Is(err, engine.ErrHost) || !strings.Contains(err.Error(), "fast (it is built for amd64, this host is riscv64)") {
		t.Errorf("on another machine: %v", err)
	}
}

// TestOldestUnpackedGo: the state directory does not grow for ever.
func TestOldestUnpackedGo(t *testing.T) {
	b := newBank(t)
	for n := range keepUnpacked + 3 {
		path := b.sign(t, b.build(t, "fraud", fmt.Sprint(n), fmt.Sprint("code ", n)), b.key)
		a, err := b.store(t).Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		long := time.Now().Add(time.Duration(n-1000) * time.Hour)
		if err := os.Chtimes(a.Dir, long, long); err != nil {
			t.Fatal(err)
		}
		a.Close()
	}
	left, err := os.ReadDir(filepath.Join(b.dir, "state/unpacked"))
	if err != nil || len(left) != keepUnpacked {
		t.Errorf("%d are left, want %d: %v", len(left), keepUnpacked, err)
	}
	b.loads(t, "the oldest, once more", "fraud@0")
}

func TestTrustThatCannotBeHad(t *testing.T) {
	b := newBank(t)
	for what, o := range map[string]TrustOptions{
		"no file":        {Keys: []string{b.dir + "/nothing"}},
		"no key":         {Keys: []string{b.file(t, "empty", nil)}},
		"no certificate": {Roots: b.trust.Keys, Names: []string{"*"}},
		"no names":       {Roots: b.trust.Roots},
		"a digest":       {OldPackages: []string{"sha256:1"}},
		"no list":        {Keys: b.trust.Keys, RevokedFile: b.dir + "/nothing"},
		"a rule":         {Keys: b.trust.Keys, Expired: "sometimes"},
	} {
		if trust, err := NewTrust(o); trust != nil || err == nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	trust, err := NewTrust(b.trust)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Trust: trust}); err == nil || !strings.Contains(err.Error(), "state directory") {
		t.Errorf("trust without a state directory: %v", err)
	}
	open := filepath.Join(b.dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Trust: trust, State: open}); err == nil || !strings.Contains(err.Error(), "other users") {
		t.Errorf("a state directory of everybody's: %v", err)
	}
}

func FuzzLedger(f *testing.F) {
	f.Add([]byte(`{"picket_accepted":1,"clock":"2026-11-26T12:00:00Z","highest":{"fraud":{"version":"3","digest":"sha256:00"}},"accepted":{"sha256:00":"2026-11-26T12:00:00Z"}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseLedger(data)
		if err != nil {
			if c.Highest != nil || c.Accepted != nil {
				t.Fatalf("%+v and error %v", c, err)
			}
			return
		}
		c.note("fraud", "4", "sha256:01", today, true)
		if err := c.check("fraud", "0", "sha256:02"); err == nil && c.Highest["fraud"].Version != "0" {
			t.Fatalf("an older version may come back: %+v", c.Highest["fraud"])
		}
	})
}
