package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// hashOf is the hash that goes with a key, by the bits of its curve.
func hashOf(key *ecdsa.PublicKey) (crypto.Hash, error) {
	switch key.Curve {
	case elliptic.P256():
		return crypto.SHA256, nil
	case elliptic.P384():
		return crypto.SHA384, nil
	case elliptic.P521():
		return crypto.SHA512, nil
	}
	return 0, fmt.Errorf("its curve is %s; P-256, P-384 and P-521 are used for models", key.Curve.Params().Name)
}

// checkKey takes what a parser made of a public key.
func checkKey(key any) (*ecdsa.PublicKey, error) {
	ec, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("it is a %s; models are signed with EC keys on P-256, P-384 or P-521", keyKind(key))
	}
	_, err := hashOf(ec)
	return ec, err
}

func keyKind(key any) string {
	name := strings.TrimPrefix(fmt.Sprintf("%T", key), "*")
	kind, _, _ := strings.Cut(name, ".")
	return kind + " key"
}

// KeyHint is how a bundle names a key: the SHA-256 of its public PEM text, in hexadecimal.
func KeyHint(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encoding a public key: %w", err)
	}
	sum := sha256.Sum256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return hex.EncodeToString(sum[:]), nil
}

// ParsePrivateKey reads an EC key from PEM, in SEC 1 or PKCS #8.
func ParsePrivateKey(text []byte) (*ecdsa.PrivateKey, error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errors.New("reading the private key: it holds no private key in PEM, which begins with -----BEGIN PRIVATE KEY-----")
		}
		text = rest
		var key any
		var err error
		switch block.Type {
		case "EC PARAMETERS":
			continue // OpenSSL puts them before the key
		case "EC PRIVATE KEY":
			if len(block.Headers) > 0 {
				return nil, errors.New("reading the private key: it is encrypted; decrypt it first, as with openssl pkey")
			}
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("reading the private key: it is encrypted; decrypt it first, as with openssl pkey")
		default:
			return nil, fmt.Errorf("reading the private key: it holds a %.40q", block.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the private key: %w", err)
		}
		ec, ok := key.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("reading the private key: it is a %s; models are signed with EC keys on P-256, P-384 or P-521", keyKind(key))
		}
		if _, err := hashOf(&ec.PublicKey); err != nil {
			return nil, fmt.Errorf("reading the private key: %w", err)
		}
		return ec, nil
	}
}

// ParsePublicKeys reads the EC keys of a PEM text, of which there is at least one. A private key counts as its public half.
func ParsePublicKeys(text []byte) ([]*ecdsa.PublicKey, error) {
	var keys []*ecdsa.PublicKey
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		var key *ecdsa.PublicKey
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			var parsed any
			if parsed, err = x509.ParsePKIXPublicKey(block.Bytes); err == nil {
				key, err = checkKey(parsed)
			}
		case "EC PARAMETERS":
			continue
		case "EC PRIVATE KEY", "PRIVATE KEY":
			var private *ecdsa.PrivateKey
			if private, err = ParsePrivateKey(pem.EncodeToMemory(block)); err == nil {
				key = &private.PublicKey
			}
		default:
			err = fmt.Errorf("it holds a %.40q", block.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("reading public keys: %w", err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("reading public keys: it holds none in PEM, which begins with -----BEGIN PUBLIC KEY-----")
	}
	return keys, nil
}

// ParseCertificates reads the certificates of a PEM text, of which there is at least one.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("reading certificates: it holds a %.40q", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading certificates: %w", err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("reading certificates: it holds none in PEM, which begins with -----BEGIN CERTIFICATE-----")
	}
	return all, nil
}

// Fingerprint is the SHA-256 of a certificate, in hexadecimal.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
