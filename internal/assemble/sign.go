package assemble

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/picket-ml/picket/packaging"
	"github.com/picket-ml/picket/packaging/signing"
)

// SignOptions say what to sign, and who does.
type SignOptions struct {
	// File is the package. Out is the file to write; empty replaces File.
	File, Out string
	// Key is the PEM file of the private key, Certificates are files with the chain of certificates that has its own.
	Key          string
	Certificates []string
	// Bundle is a file with a signature that was made elsewhere, in place of a key.
	Bundle string
	// Force replaces Out where it is there already.
	Force bool
}

// Signed is the package that has a signature now.
type Signed struct {
	File   string `json:"file"`
	Digest string `json:"digest"`
	Signer string `json:"signer"`
}

// Sign puts a signature into a package. Every file in it is compared with its manifest on the way, so that nothing is
// signed that nobody has looked at.
func Sign(ctx context.Context, o SignOptions) (s Signed, err error) {
	f, err := os.Open(o.File)
	if err != nil {
		return s, fileError(err)
	}
	defer f.Close()
	a, err := packaging.Open(ctx, f)
	if err != nil {
		return s, err
	}
	_ = a.Close() // the manifest was read, and says what to sign
	files := signing.FilesOf(a.ManifestBytes, a.Manifest)
	var bundle []byte
	if o.Bundle != "" {
		bundle, err = takeBundle(o.Bundle, files)
	} else {
		bundle, err = makeBundle(a.Manifest, files, o)
	}
	if err != nil {
		return s, err
	}
	if s.Signer, err = signing.Claim(bundle); err != nil {
		return s, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return s, fileError(err)
	}
	s.File, s.Digest = o.Out, a.Digest()
	if o.Out == "" {
		s.File = o.File
	}
	return s, packaging.Attach(ctx, f, s.File, o.Force || o.Out == "", bundle)
}

func makeBundle(m *packaging.Manifest, files map[string]string, o SignOptions) ([]byte, error) {
	text, err := ReadText(o.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the private key %s: %w", o.Key, err)
	}
	key, err := signing.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Key, err)
	}
	var certificates []*x509.Certificate
	for _, path := range o.Certificates {
		text, err := ReadText(path)
		if err != nil {
			return nil, fmt.Errorf("reading the certificates %s: %w", path, err)
		}
		more, err := signing.ParseCertificates(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		certificates = append(certificates, more...)
	}
	return signing.Sign(m.Name+"-"+m.Version, files, key, certificates)
}

// takeBundle reads a signature and makes sure that it is over these files.
func takeBundle(path string, files map[string]string) ([]byte, error) {
	bundle, err := ReadText(path)
	if err != nil {
		return nil, fmt.Errorf("reading the signature: %w", err)
	}
	claimed, err := signing.ClaimedFiles(bundle)
	if err != nil {
		return nil, err
	}
	return bundle, claimed.Match(files)
}

// ReadText reads a small file: a key, certificates, a signature.
func ReadText(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, packaging.MaxSignatureBytes+1))
	if err == nil && len(data) > packaging.MaxSignatureBytes {
		err = errors.New("it is far too large; is it the right file?")
	}
	return data, err
}

// fileError is an error of the file system without the path, which the sentence has already.
func fileError(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}
