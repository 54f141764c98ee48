package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// someFiles are files to sign, in folders whose order depends on how paths are compared.
func someFiles() map[string]string {
	files := map[string]string{}
	for _, path := range []string{"sagemaker_edge_manifest", "compiled.so", "variants/a-b/x", "variants/a/x", "variants/a.b/x"} {
		sum := sha256.Sum256([]byte(path))
		files[path] = hex.EncodeToString(sum[:])
	}
	return files
}

// issue makes a certificate of key, by its parent, or by itself where that is nil.
func issue(t testing.TB, template x509.Certificate, key crypto.Signer, parent *x509.Certificate, parentKey crypto.Signer) *x509.Certificate {
	t.Helper()
	if template.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = noon.Add(-24*time.Hour), noon.Add(24*time.Hour)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	if parent == nil {
		parent, parentKey = &template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// authority is a root, one that it vouches for, and a signer below that.
type authority struct {
	root, middle, leaf *x509.Certificate
	key                *ecdsa.PrivateKey // of the leaf
	middleKey          *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, change func(leaf *x509.Certificate)) authority {
	t.Helper()
	rootKey, err := rsa.GenerateKey(rand.Reader, 2048) // as the old service's was
	if err != nil {
		t.Fatal(err)
	}
	a := authority{key: newKey(t, elliptic.P256()), middleKey: newKey(t, elliptic.P384())}
	ca := x509.Certificate{Subject: pkix.Name{CommonName: "Root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: noon.Add(-1000 * time.Hour), NotAfter: noon.Add(1000 * time.Hour)}
	a.root = issue(t, ca, rootKey, nil, nil)
	ca.Subject.CommonName = "Middle"
	ca.NotBefore, ca.NotAfter = time.Time{}, time.Time{}
	a.middle = issue(t, ca, a.middleKey, a.root, rootKey)
	leaf := x509.Certificate{
		Subject: pkix.Name{CommonName: "Models", Organization: []string{"Bank"}}, DNSNames: []string{"models.bank.example"}, EmailAddresses: []string{"models@bank.example"},
		URIs: []*url.URL{{Scheme: "spiffe", Host: "bank.example", Path: "/models"}}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	if change != nil {
		change(&leaf)
	}
	a.leaf = issue(t, leaf, a.key, a.middle, a.middleKey)
	return a
}

func (a authority) trust() *Trust {
	return &Trust{Roots: []*x509.Certificate{a.root}, Names: []string{"Models"}, At: noon}
}

func (a authority) sign(t testing.TB) []byte {
	t.Helper()
	// In an order of their own: the one of the key comes first in what is signed.
	bundle, err := Sign("m-1", someFiles(), a.key, []*x509.Certificate{a.middle, a.leaf})
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

func TestKeys(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key, other := newKey(t, curve), newKey(t, curve)
		bundle, err := Sign("m-1", someFiles(), key, nil)
		if err != nil {
			t.Fatal(err)
		}
		trust := &Trust{Keys: []*ecdsa.PublicKey{&other.PublicKey, &key.PublicKey}}
		signed, err := trust.Verify(bundle)
		if err != nil {
			t.Fatalf("%s: %v", curve.Params().Name, err)
		}
		if !maps.Equal(signed.Files, someFiles()) || signed.Match(someFiles()) != nil {
			t.Errorf("it is over %v", signed.Files)
		}
		hint, _ := KeyHint(&key.PublicKey)
		if claim, err := Claim(bundle); err != nil || claim != "key sha256:"+hint || signed.Signer.String() != claim {
			t.Errorf("it claims %q, %v; verified it is %v", claim, err, signed.Signer)
		}
		if _, err := (&Trust{Keys: []*ecdsa.PublicKey{&other.PublicKey}}).Verify(bundle); !errors.Is(err, ErrUntrusted) {
			t.Errorf("by an unknown key: %v", err)
		}
		trust.Revoked.Keys = map[string]bool{hint: true}
		if _, err := trust.Verify(bundle); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("by a revoked key: %v", err)
		}
	}
}

// TestForgedHint: a bundle that names a trusted key and was made by another.
func TestForgedHint(t *testing.T) {
	key, forger := newKey(t, elliptic.P256()), newKey(t, elliptic.P256())
	bundle, err := Sign("m-1", someFiles(), forger, nil)
	if err != nil {
		t.Fatal(err)
	}
	hint, _ := KeyHint(&key.PublicKey)
	forged, _ := KeyHint(&forger.PublicKey)
	bundle = []byte(strings.ReplaceAll(string(bundle), forged, hint))
	if _, err := (&Trust{Keys: []*ecdsa.PublicKey{&key.PublicKey}}).Verify(bundle); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "was not made by") {
		t.Errorf("a forged signature: %v", err)
	}
}

// TestEveryBit: whichever bit of a signature changes, it is refused, or says the same of the same signer.
func TestEveryBit(t *testing.T) {
	key := newKey(t, elliptic.P256())
	bundle, err := Sign("m-1", someFiles(), key, nil)
	if err != nil {
		t.Fatal(err)
	}
	trust := &Trust{Keys: []*ecdsa.PublicKey{&key.PublicKey}}
	same := 0
	for bit := range len(bundle) * 8 {
		bundle[bit/8] ^= 1 << (bit % 8)
		signed, err := trust.Verify(bundle)
		switch {
		case err == nil && signed.Match(someFiles()) == nil:
			same++ // the case of a key, bits of base64 that stand for nothing
		case !errors.Is(err, ErrBundle) && !errors.Is(err, ErrUntrusted):
			t.Errorf("bit %d of byte %d: %v", bit%8, bit/8, err)
		}
		bundle[bit/8] ^= 1 << (bit % 8)
	}
	if same > 400 {
		t.Errorf("%d of %d changed bits were not noticed", same, len(bundle)*8)
	}
	t.Logf("%d of %d bits change nothing that is said", same, len(bundle)*8)
}

func TestCertificates(t *testing.T) {
	a := newAuthority(t, nil)
	bundle := a.sign(t)
	for _, name := range []string{"Models", "CN=Models,O=Bank", "models.bank.example", "models@bank.example", "spiffe://bank.example/models", "*"} {
		trust := a.trust()
		trust.Names = []string{"somebody", name}
		signed, err := trust.Verify(bundle)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := []string{Fingerprint(a.leaf), Fingerprint(a.middle), Fingerprint(a.root)}
		if s := signed.Signer; !reflect.DeepEqual(s.Certificates, want) || s.Subject != "CN=Models,O=Bank" || !s.NotAfter.Equal(a.leaf.NotAfter) {
			t.Errorf("signed by %+v", s)
		}
	}
	hint, _ := KeyHint(&a.key.PublicKey)
	for name, c := range map[string]struct {
		change func(*Trust)
		says   string
	}{
		"another name":     {func(t *Trust) { t.Names = []string{"models"} }, "is none that may sign"},
		"no name":          {func(t *Trust) { t.Names = nil }, "is none that may sign"},
		"an empty name":    {func(t *Trust) { t.Names = []string{""} }, "is none that may sign"},
		"no root":          {func(t *Trust) { t.Roots = nil }, "no root that is trusted"},
		"another root":     {func(trust *Trust) { trust.Roots = newAuthority(t, nil).trust().Roots }, "no root that is trusted"},
		"the key alone":    {func(t *Trust) { t.Keys, t.Roots = []*ecdsa.PublicKey{&a.key.PublicKey}, nil }, "no root that is trusted"},
		"revoked":          {func(t *Trust) { t.Revoked.Certificates = map[string]bool{Fingerprint(a.leaf): true} }, "was revoked"},
		"revoked middle":   {func(t *Trust) { t.Revoked.Certificates = map[string]bool{Fingerprint(a.middle): true} }, "was revoked"},
		"revoked root":     {func(t *Trust) { t.Revoked.Certificates = map[string]bool{Fingerprint(a.root): true} }, "was revoked"},
		"its key revoked":  {func(t *Trust) { t.Revoked.Keys = map[string]bool{hint: true} }, "was revoked"},
		"expired":          {func(t *Trust) { t.At = noon.Add(48 * time.Hour) }, "expired at 2026-11-27 12:00 UTC"},
		"a clock of 1970":  {func(t *Trust) { t.At = time.Unix(0, 0) }, "the clock of this host says 1970-01-01 00:00 UTC: set the clock"},
		"long after all":   {func(t *Trust) { t.At = noon.Add(5000 * time.Hour) }, "expired at"},
		"middle's own end": {func(t *Trust) { t.At = a.middle.NotAfter.Add(time.Second) }, "expired at"},
	} {
		trust := a.trust()
		c.change(trust)
		_, err := trust.Verify(bundle)
		if !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want one that says %q", name, err, c.says)
		}
		if wrong := strings.Contains(c.says, "expired") || strings.Contains(c.says, "clock"); errors.As(err, new(*ValidityError)) != wrong {
			t.Errorf("%s: a matter of time: %v", name, !wrong)
		}
	}
}

func TestCertificatesThatAreNotForSigning(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		ok     bool
	}{
		"digital signature":            {func(c *x509.Certificate) { c.ExtKeyUsage = nil }, true},
		"code signing":                 {func(c *x509.Certificate) { c.KeyUsage = 0 }, true},
		"anything":                     {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, true},
		"nothing said":                 {func(c *x509.Certificate) { c.KeyUsage, c.ExtKeyUsage = 0, nil }, false},
		"a web server":                 {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, false},
		"certificates":                 {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }, false},
		"encryption":                   {func(c *x509.Certificate) { c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageKeyEncipherment, nil }, false},
		"a name of nobody's, expected": {func(c *x509.Certificate) { c.Subject = pkix.Name{} }, false},
	} {
		a := newAuthority(t, c.change)
		bundle, err := Sign("m-1", someFiles(), a.key, []*x509.Certificate{a.leaf, a.middle})
		if err == nil {
			_, err = a.trust().Verify(bundle)
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	a := newAuthority(t, nil)
	if _, err := Sign("m", someFiles(), newKey(t, elliptic.P256()), []*x509.Certificate{a.leaf}); err == nil || !strings.Contains(err.Error(), "none of the certificates") {
		t.Errorf("a certificate of another key: %v", err)
	}
}

func TestMatch(t *testing.T) {
	s := &Signed{Files: someFiles()}
	for name, change := range map[string]func(map[string]string){
		"a file more": func(f map[string]string) { f["more"] = f["compiled.so"] },
		"a file less": func(f map[string]string) { delete(f, "compiled.so") },
		"renamed":     func(f map[string]string) { f["Compiled.so"] = f["compiled.so"]; delete(f, "compiled.so") },
		"changed":     func(f map[string]string) { f["compiled.so"] = strings.Repeat("0", 64) },
		"swapped": func(f map[string]string) {
			f["compiled.so"], f["variants/a/x"] = f["variants/a/x"], f["compiled.so"]
		},
		"nothing": func(f map[string]string) { clear(f) },
	} {
		files := someFiles()
		change(files)
		if err := s.Match(files); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBundlesThatAreRefused: sound signatures by a trusted key over what is not to be signed, and bundles of other kinds.
func TestBundlesThatAreRefused(t *testing.T) {
	key := newKey(t, elliptic.P256())
	trust := &Trust{Keys: []*ecdsa.PublicKey{&key.PublicKey}}
	good, err := Sign("m-1", someFiles(), key, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bundle
	if err := json.Unmarshal(good, &b); err != nil {
		t.Fatal(err)
	}
	resign := func(old, by string) []byte {
		payload := strings.Replace(string(b.Envelope.Payload), old, by, 1)
		if payload == string(b.Envelope.Payload) {
			t.Fatalf("the statement has no %q", old)
		}
		sum := sha256.Sum256(pae([]byte(payload)))
		sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		again := b
		again.Envelope.Payload, again.Envelope.Signatures = []byte(payload), []oneSignature{{Sig: sig}}
		data, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	edit := func(old, by string) []byte {
		data := strings.Replace(string(good), old, by, 1)
		if data == string(good) {
			t.Fatalf("the bundle has no %q", old)
		}
		return []byte(data)
	}
	sig := base64.StdEncoding.EncodeToString(b.Envelope.Signatures[0].Sig)
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"empty":                    {nil, "ends in the middle"},
		"no object":                {[]byte("[]"), "cannot unmarshal"},
		"cut":                      {good[:len(good)-2], "ends in the middle"},
		"larger than it may be":    {[]byte(strings.Repeat(" ", 5<<20)), "larger than"},
		"an older bundle":          {edit("v0.3+json", "v0.2+json"), "this program reads"},
		"an unknown field":         {edit(`{"mediaType"`, `{"more":1,"mediaType"`), "unknown field"},
		"a field twice":            {edit(`{"mediaType"`, `{"mediatype":"x","mediaType"`), "there twice"},
		"no key":                   {edit(`"publicKey":{"hint"`, `"x509CertificateChain":{"certificates":[]},"publicKey":{"hint"`), "one key or one chain"},
		"keyless":                  {edit(`"publicKey":{"hint"`, `"certificate":{"rawBytes":""},"publicKey":{"hint"`), "without a key"},
		"another payload":          {edit("in-toto+json", "other+json"), "what is signed is"},
		"two signatures":           {edit(`"signatures":[`, `"signatures":[{"sig":"`+sig+`","keyid":""},`), "has 2 signatures"},
		"no signature":             {edit(`{"sig":"`+sig+`","keyid":""}`, ""), "has 0 signatures"},
		"an empty signature":       {edit(sig, ""), "was not made by"},
		"not base64":               {edit(sig, "!"+sig), "illegal base64"},
		"another statement":        {resign("Statement/v1", "Statement/v0.1"), "what is signed is"},
		"the predicate of 0.2":     {resign("https://model_signing/signature/v1.0", "https://model_signing/Digests/v0.1"), "1.0 or later"},
		"shards":                   {resign(`"method": "files"`, `"method": "shards"`), "sign over whole files"},
		"BLAKE":                    {resign(`"hash_type": "sha256"`, `"hash_type": "blake3"`), "sign with sha256"},
		"one file by BLAKE":        {resign(`"algorithm": "sha256"`, `"algorithm": "blake3"`), "not with sha256"},
		"another subject digest":   {resign(`"sha256": "`, `"sha256": "00`), "digest of its subject"},
		"a file's name twice":      {resign(`"name": "compiled.so"`, `"name": "sagemaker_edge_manifest"`), "listed twice"},
		"a digest that is none":    {resign(`"digest": "`, `"digest": "zz`), "no SHA-256"},
		"a key of a payload twice": {resign(`"_type"`, `"_type": "x", "_type"`), "there twice"},
	} {
		signed, err := trust.Verify(c.data)
		if signed != nil || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v, want an error that says %q", name, signed, err, c.says)
		}
		if !errors.Is(err, ErrBundle) && !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: an error of no kind: %v", name, err)
		}
	}
	// What the specification says to ignore is ignored.
	if _, err := trust.Verify(resign(`"serialization"`, `"model_card": {"a": 1}, "serialization"`)); err != nil {
		t.Error(err)
	}
}

func TestReadingKeys(t *testing.T) {
	key := newKey(t, elliptic.P384())
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for _, private := range [][]byte{text("EC PRIVATE KEY", sec1), text("PRIVATE KEY", pkcs8), append(text("EC PARAMETERS", []byte{6, 5}), text("EC PRIVATE KEY", sec1)...)} {
		if got, err := ParsePrivateKey(private); err != nil || !got.Equal(key) {
			t.Errorf("%v", err)
		}
		if got, err := ParsePublicKeys(private); err != nil || len(got) != 1 || !got[0].Equal(&key.PublicKey) {
			t.Errorf("%v", err)
		}
	}
	two := append(text("PUBLIC KEY", public), text("PUBLIC KEY", public)...)
	if got, err := ParsePublicKeys(two); err != nil || len(got) != 2 {
		t.Errorf("%v", err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.MarshalPKCS8PrivateKey(edwards)
	if err != nil {
		t.Fatal(err)
	}
	small, err := x509.MarshalPKCS8PrivateKey(newKey(t, elliptic.P224()))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text []byte
		says string
	}{
		"nothing":          {nil, "holds no private key"},
		"a public one":     {two, "holds a \"PUBLIC KEY\""},
		"encrypted":        {text("ENCRYPTED PRIVATE KEY", pkcs8), "is encrypted"},
		"of another kind":  {text("PRIVATE KEY", other), "ed25519 key"},
		"of a small curve": {text("PRIVATE KEY", small), "P-224"},
		"damaged":          {text("PRIVATE KEY", pkcs8[1:]), "reading the private key"},
	} {
		if key, err := ParsePrivateKey(c.text); key != nil || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want one that says %q", name, err, c.says)
		}
	}
	if _, err := ParseCertificates(two); err == nil {
		t.Error("public keys were read as certificates")
	}
}

func TestRevokedList(t *testing.T) {
	digest := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	list := "# lost\n\nkey " + digest("a") + " # of May\n  certificate\t" + digest("B") + "\r\npackage " + digest("c")
	r, err := ParseRevoked([]byte(list))
	if err != nil || !r.Keys[strings.Repeat("a", 64)] || !r.Certificates[strings.Repeat("b", 64)] || !r.Packages[strings.Repeat("c", 64)] {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"key", "keys " + digest("a"), "key aa", "key " + digest("a") + " more", "package sha256:zz", strings.Repeat("x", 1<<17)} {
		if _, err := ParseRevoked([]byte("\n" + bad)); err == nil {
			t.Errorf("%.40q was read", bad)
		}
	}
}

// FuzzBundle: whatever the bytes, nobody is the signer but the one who is trusted, and of nothing but what he signed.
func FuzzBundle(f *testing.F) {
	key := newKey(f, elliptic.P256())
	a := newAuthority(f, nil)
	trust := a.trust()
	trust.Keys = []*ecdsa.PublicKey{&key.PublicKey}
	byKey, err := Sign("m-1", someFiles(), key, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(byKey)
	f.Add(a.sign(f))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"certificate":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		signed, err := trust.Verify(data)
		if (signed == nil) == (err == nil) {
			t.Fatalf("%v and error %v", signed, err)
		}
		if err != nil && !errors.Is(err, ErrBundle) && !errors.Is(err, ErrUntrusted) {
			t.Fatalf("an error of no kind: %v", err)
		}
		if err == nil {
			if err := signed.Match(someFiles()); err != nil {
				t.Fatalf("a forgery: %v", err)
			}
		}
		if claim, err := Claim(data); err == nil && claim == "" {
			t.Fatal("it claims to be of nobody")
		}
	})
}

// FuzzStatement reads what is signed, which is looked at only when it was: still.
func FuzzStatement(f *testing.F) {
	payload, err := newStatement("m-1", someFiles())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Fuzz(func(t *testing.T, payload []byte) {
		files, err := parseStatement(payload)
		if err != nil {
			if files != nil || !errors.Is(err, ErrBundle) {
				t.Fatalf("%v and error %v", files, err)
			}
			return
		}
		again, err := newStatement("x", files)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseStatement(again); err != nil || !maps.Equal(got, files) {
			t.Fatalf("%v, %v", got, err)
		}
	})
}

// TestKeyHint: what the Python program writes for this key.
func TestKeyHint(t *testing.T) {
	keys, err := ParsePublicKeys([]byte(pythonKey))
	if err != nil {
		t.Fatal(err)
	}
	if hint, err := KeyHint(keys[0]); err != nil || hint != pythonHint {
		t.Errorf("the hint is %s, %v, want %s", hint, err, pythonHint)
	}
	if fmt.Sprint(keys[0].Curve.Params().Name) != "P-384" {
		t.Error("another curve")
	}
}
