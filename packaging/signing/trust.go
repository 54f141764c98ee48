package signing

import (
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// AnyName among Trust.Names stands for every name.
const AnyName = "*"

// Trust says who may sign.
type Trust struct {
	// Keys may sign by themselves.
	Keys []*ecdsa.PublicKey
	// Roots may vouch for others: a certificate that leads to one of them, and has one of Names, may sign.
	Roots []*x509.Certificate
	// Names are matched with the certificate's common name, its whole subject, and its alternative names (DNS, mail,
	// URI). None match nothing; AnyName matches all.
	Names []string
	// Revoked is taken away from all of that.
	Revoked Revoked
	// At is when certificates must be valid.
	At time.Time
}

// Signed is what a signature that was checked says.
type Signed struct {
	// Files are the files it is over, with their SHA-256.
	Files  map[string]string
	Signer Signer
}

// Signer is who made it.
type Signer struct {
	// Key is the hint of the key that made it.
	Key string
	// Subject is the certificate's, empty for a key alone.
	Subject string
	// Certificates are the fingerprints of the chain that was followed, that of the signer first.
	Certificates []string
	// NotAfter is when the first of them ends to be valid; zero for a key alone.
	NotAfter time.Time
}

// String names the signer for people.
func (s Signer) String() string {
	if s.Subject == "" {
		return "key sha256:" + s.Key
	}
	return fmt.Sprintf("%s (certificate sha256:%s)", s.Subject, s.Certificates[0])
}

// Claim is what a bundle says of its signer before anything was checked: the hint of a key, or the subject of a certificate.
func Claim(data []byte) (string, error) {
	b, err := parseBundle(data)
	if err != nil {
		return "", err
	}
	if b.Verification.PublicKey != nil {
		return Signer{Key: b.Verification.PublicKey.Hint}.String(), nil
	}
	leaf, err := x509.ParseCertificate(b.Verification.Chain.Certificates[0].Raw)
	if err != nil {
		return "", bad("its first certificate: %w", err)
	}
	return Signer{Subject: leaf.Subject.String(), Certificates: []string{Fingerprint(leaf)}}.String(), nil
}

// Verify checks a signature. Errors wrap ErrBundle or ErrUntrusted; one of the latter may be a ValidityError.
func (t *Trust) Verify(data []byte) (*Signed, error) {
	b, err := parseBundle(data)
	if err != nil {
		return nil, err
	}
	var signer Signer
	var key *ecdsa.PublicKey
	if b.Verification.PublicKey != nil {
		signer, key, err = t.findKey(b.Verification.PublicKey.Hint)
	} else {
		signer, key, err = t.follow(b.Verification.Chain)
	}
	if err != nil {
		return nil, err
	}
	hash, err := hashOf(key)
	if err != nil {
		return nil, bad("%w", err)
	}
	h := hash.New()
	h.Write(pae(b.Envelope.Payload))
	if !ecdsa.VerifyASN1(key, h.Sum(nil), b.Envelope.Signatures[0].Sig) {
		return nil, untrusted("the signature was not made by %v over what it says", signer)
	}
	files, err := parseStatement(b.Envelope.Payload)
	if err != nil {
		return nil, err
	}
	return &Signed{Files: files, Signer: signer}, nil
}

func (t *Trust) findKey(hint string) (Signer, *ecdsa.PublicKey, error) {
	signer := Signer{Key: hint}
	if t.Revoked.Keys[hint] {
		return signer, nil, untrusted("the %v was revoked", signer)
	}
	for _, key := range t.Keys {
		own, err := KeyHint(key)
		if err != nil {
			return signer, nil, err
		}
		if own == hint {
			return signer, key, nil
		}
	}
	return signer, nil, untrusted("the %.80v is none of the %d that may sign", signer, len(t.Keys))
}

// follow finds a way from the first certificate to a root.
func (t *Trust) follow(c *chain) (Signer, *ecdsa.PublicKey, error) {
	var all []*x509.Certificate
	for _, one := range c.Certificates {
		parsed, err := x509.ParseCertificate(one.Raw)
		if err != nil {
			return Signer{}, nil, bad("a certificate: %w", err)
		}
		all = append(all, parsed)
	}
	leaf := all[0]
	signer := Signer{Subject: leaf.Subject.String(), Certificates: []string{Fingerprint(leaf)}, NotAfter: leaf.NotAfter}
	key, err := checkKey(leaf.PublicKey)
	if err != nil {
		return signer, nil, bad("the key of %v: %w", signer, err)
	}
	if signer.Key, err = KeyHint(key); err != nil {
		return signer, nil, err
	}
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: t.At,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // mayCertify looks at the one that counts
	}
	for _, root := range t.Roots {
		options.Roots.AddCert(root)
	}
	for _, other := range all[1:] {
		options.Intermediates.AddCert(other)
	}
	chains, err := leaf.Verify(options)
	if err != nil {
		return signer, nil, t.whyNot(signer, leaf, options, err)
	}
	if err := mayCertify(leaf); err != nil {
		return signer, nil, untrusted("%w", err)
	}
	if !t.named(leaf) {
		return signer, nil, untrusted("the name of %v is none that may sign", signer)
	}
	if t.Revoked.Keys[signer.Key] {
		return signer, nil, untrusted("the key of %v was revoked", signer)
	}
	for _, way := range chains {
		signer.Certificates = signer.Certificates[:0]
		for _, one := range way {
			signer.Certificates = append(signer.Certificates, Fingerprint(one))
		}
		if !slices.ContainsFunc(signer.Certificates, func(f string) bool { return t.Revoked.Certificates[f] }) {
			return signer, key, nil
		}
	}
	return signer, nil, untrusted("the certificate of %s, or one that vouches for it, was revoked", leaf.Subject)
}

// whyNot puts into words why no root vouches for leaf, with what it was asked. Where one did when the certificate began to
// be valid, it is a matter of time.
func (t *Trust) whyNot(signer Signer, leaf *x509.Certificate, o x509.VerifyOptions, err error) error {
	o.CurrentTime = leaf.NotBefore
	chains, then := leaf.Verify(o)
	if then != nil {
		return untrusted("no root that is trusted vouches for %v: %w", signer, err)
	}
	v := &ValidityError{Subject: leaf.Subject.String(), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, At: t.At}
	for _, c := range chains[0] {
		if c.NotAfter.Before(v.NotAfter) {
			v.Subject, v.NotAfter = c.Subject.String(), c.NotAfter
		}
	}
	return v
}

// mayCertify tells whether a certificate is one for signing things.
func mayCertify(c *x509.Certificate) error {
	extended := len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0
	code := slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
	signs := c.KeyUsage&x509.KeyUsageDigitalSignature != 0
	if code && (signs || c.KeyUsage == 0) || !extended && signs {
		return nil
	}
	return fmt.Errorf("the certificate of %s is not for signing: it needs the extended key usage code signing or, without any, the key usage digital signature", c.Subject)
}

// named tells whether the certificate has one of the names that may sign.
func (t *Trust) named(c *x509.Certificate) bool {
	names := slices.Concat([]string{c.Subject.CommonName, c.Subject.String()}, c.DNSNames, c.EmailAddresses)
	for _, uri := range c.URIs {
		names = append(names, uri.String())
	}
	return slices.ContainsFunc(t.Names, func(allowed string) bool {
		return allowed == AnyName || allowed != "" && slices.Contains(names, allowed)
	})
}

// Match fails with ErrMismatch unless the signature is over exactly these files.
func (s *Signed) Match(files map[string]string) error {
	for path, digest := range files {
		switch signed, ok := s.Files[path]; {
		case !ok:
			return fmt.Errorf("%w: it does not cover %.100q", ErrMismatch, path)
		case signed != digest:
			return fmt.Errorf("%w: it covers another %.100q", ErrMismatch, path)
		}
	}
	for path := range s.Files {
		if _, ok := files[path]; !ok {
			return fmt.Errorf("%w: the package has no %.100q, which it covers", ErrMismatch, path)
		}
	}
	return nil
}

// ClaimedFiles is what a bundle says it is over, before anything was checked.
func ClaimedFiles(data []byte) (*Signed, error) {
	b, err := parseBundle(data)
	if err != nil {
		return nil, err
	}
	files, err := parseStatement(b.Envelope.Payload)
	if err != nil {
		return nil, err
	}
	return &Signed{Files: files}, nil
}
