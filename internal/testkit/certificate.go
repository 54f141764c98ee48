package testkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Certificate is a certificate and its key, for clients, and for servers at 127.0.0.1 and localhost. It lies in two PEM files.
type Certificate struct {
	// Pair has the Leaf.
	Pair tls.Certificate
	// File and Key are the files.
	File, Key string

	private *ecdsa.PrivateKey
}

// NewCertificate makes one that is good for another hour, with that name. It is signed by the authority, or, where that is nil, by
// itself, and can sign others then.
func NewCertificate(t testing.TB, name string, authority *Certificate) *Certificate {
	t.Helper()
	return NewCertificateUntil(t, name, authority, time.Now().Add(time.Hour))
}

// NewCertificateUntil is NewCertificate for one that was good for a day before that time.
func NewCertificateUntil(t testing.TB, name string, authority *Certificate, until time.Time) *Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: until.Add(-24 * time.Hour), NotAfter: until, IsCA: authority == nil, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := about, private
	if authority != nil {
		parent, signer = authority.Pair.Leaf, authority.private
	}
	der, err := x509.CreateCertificate(rand.Reader, about, parent, &private.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := &Certificate{
		Pair: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf}, private: private,
		File: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key"),
	}
	c.Write(t, c.File, c.Key)
	return c
}

// Write writes the certificate and its key into files, each unless its path is empty.
func (c *Certificate) Write(t testing.TB, certificate, key string) {
	t.Helper()
	secret, err := x509.MarshalPKCS8PrivateKey(c.private)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		path  string
		block pem.Block
	}{
		{certificate, pem.Block{Type: "CERTIFICATE", Bytes: c.Pair.Leaf.Raw}},
		{key, pem.Block{Type: "PRIVATE KEY", Bytes: secret}},
	} {
		if f.path == "" {
			continue
		}
		if err := os.WriteFile(f.path, pem.EncodeToMemory(&f.block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
