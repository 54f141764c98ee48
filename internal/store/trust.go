package store

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/picket-ml/picket/packaging"
	"github.com/picket-ml/picket/packaging/signing"
)

// What is to happen with a package whose certificate has expired.
const (
	// ExpiredKnown accepts those that this host has run while it was valid: a certificate that expires ends the making of
	// new packages, and not the use of those that are there.
	ExpiredKnown = "known"
	// ExpiredRefused refuses it.
	ExpiredRefused = "refuse"
	// ExpiredAllowed accepts it if the certificate was valid when it was issued, as the program model_signing does: the
	// clock does not matter.
	ExpiredAllowed = "allow"
)

// TrustOptions say who may sign packages.
type TrustOptions struct {
	// Keys and Roots are PEM files of public keys, and of certificates that vouch for others.
	Keys, Roots []string
	// Names are those that a certificate may have; see signing.Trust.
	Names []string
	// RevokedFile is a list of what is trusted no longer; see signing.ParseRevoked. It is read again for each package, and
	// where it cannot be read, nothing is trusted. Empty for none.
	RevokedFile string
	// OldPackages are the digests of archives of the old service, whose signatures cannot be checked.
	OldPackages []string
	// Rollback are packages, as name@version, that may be loaded although a higher version was.
	Rollback []string
	// Expired is one of the constants above; empty is ExpiredKnown.
	Expired string
}

// Trust is who may sign. It may be used by many goroutines at once.
type Trust struct {
	trust       signing.Trust // without Revoked and At
	revokedFile string
	old         []string
	rollback    []string
	expired     string
}

// maxPEMBytes is many times what keys and certificates take.
const maxPEMBytes = 1 << 20

// NewTrust reads the keys and certificates.
func NewTrust(o TrustOptions) (*Trust, error) {
	t := &Trust{revokedFile: o.RevokedFile, old: o.OldPackages, rollback: o.Rollback, expired: o.Expired}
	t.trust.Names = o.Names
	for _, path := range o.Keys {
		keys, err := readPEM(path, signing.ParsePublicKeys)
		if err != nil {
			return nil, err
		}
		t.trust.Keys = append(t.trust.Keys, keys...)
	}
	for _, path := range o.Roots {
		roots, err := readPEM(path, signing.ParseCertificates)
		if err != nil {
			return nil, err
		}
		t.trust.Roots = append(t.trust.Roots, roots...)
	}
	if len(o.Roots) > 0 && len(o.Names) == 0 {
		return nil, errors.New("reading whom to trust: there are roots and no names, so nobody they vouch for may sign; name who may, or * for all")
	}
	for _, digest := range o.OldPackages {
		if _, err := packaging.CheckDigest(digest); err != nil {
			return nil, fmt.Errorf("reading whom to trust: %w", err)
		}
	}
	switch t.expired {
	case "":
		t.expired = ExpiredKnown
	case ExpiredKnown, ExpiredRefused, ExpiredAllowed:
	default:
		return nil, fmt.Errorf("reading whom to trust: %q is none of %s, %s and %s", t.expired, ExpiredKnown, ExpiredRefused, ExpiredAllowed)
	}
	if _, err := t.revoked(); err != nil {
		return nil, fmt.Errorf("reading whom to trust: %s: %w", o.RevokedFile, err)
	}
	return t, nil
}

// TrustKeys trusts exactly these keys.
func TrustKeys(keys ...*ecdsa.PublicKey) *Trust {
	return &Trust{trust: signing.Trust{Keys: keys}, expired: ExpiredKnown}
}

func readPEM[T any](path string, parse func([]byte) (T, error)) (parsed T, err error) {
	data, err := readBounded(path, maxPEMBytes)
	if err == nil {
		parsed, err = parse(data)
	}
	if err != nil {
		return parsed, fmt.Errorf("reading whom to trust: %s: %w", path, err)
	}
	return parsed, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err) // without the path, which the caller says
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	return data, err
}

// revoked reads the list as it is now.
func (t *Trust) revoked() (signing.Revoked, error) {
	if t.revokedFile == "" {
		return signing.Revoked{}, nil
	}
	data, err := readBounded(t.revokedFile, signing.MaxRevokedBytes)
	if err != nil {
		return signing.Revoked{}, fmt.Errorf("the list of what is revoked cannot be read, so nothing is trusted: %w", err)
	}
	r, err := signing.ParseRevoked(bytes.TrimPrefix(data, []byte("\ufeff")))
	if err != nil {
		return r, fmt.Errorf("the list of what is revoked is damaged, so nothing is trusted: %w", err)
	}
	return r, nil
}

// Judge tells who signed the package at hand, if that is somebody who may. now is what time it is; before is when this host
// accepted the very same package earlier, zero for never. Every error means that it is not to be trusted.
func (t *Trust) Judge(a *packaging.Archive, now, before time.Time) (*signing.Signed, error) {
	revoked, err := t.revoked()
	if err != nil {
		return nil, err
	}
	if digits, err := packaging.CheckDigest(a.Digest()); err != nil || revoked.Packages[digits] {
		return nil, errors.New("the package was revoked")
	}
	if a.Bundle == nil {
		return nil, errNotSigned
	}
	trust := t.trust
	trust.Revoked, trust.At = revoked, now
	signed, err := trust.Verify(a.Bundle)
	var validity *signing.ValidityError
	if errors.As(err, &validity) {
		switch {
		case t.expired == ExpiredAllowed:
			trust.At = validity.NotBefore
		case t.expired == ExpiredKnown && !before.IsZero():
			trust.At = before
		default:
			return nil, err
		}
		signed, err = trust.Verify(a.Bundle)
	}
	if err != nil {
		return nil, err
	}
	if err := signed.Match(signing.FilesOf(a.ManifestBytes, a.Manifest)); err != nil {
		return nil, err
	}
	return signed, nil
}

var errNotSigned = errors.New("it is not signed")

// acceptsOld tells whether an archive of the old service is trusted by its digest.
func (t *Trust) acceptsOld(digest string) error {
	revoked, err := t.revoked()
	switch {
	case err != nil:
		return err
	case revoked.Packages[strings.TrimPrefix(digest, "sha256:")]:
		return errors.New("the package was revoked")
	case !slices.Contains(t.old, digest):
		return fmt.Errorf("it is an archive of the old service or of others, and its digest %s is none of trust.packages", digest)
	}
	return nil
}

// allowsRollback tells whether the operator has named the version.
func (t *Trust) allowsRollback(name, version string) bool {
	return slices.Contains(t.rollback, name+"@"+version)
}
