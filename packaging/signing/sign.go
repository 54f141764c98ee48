package signing

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Sign makes a signature over files, paths with the SHA-256 of each in hexadecimal; name is for people. With certificates
// it names the one that holds the key first and the others as they come, else the key alone.
func Sign(name string, files map[string]string, key *ecdsa.PrivateKey, certificates []*x509.Certificate) ([]byte, error) {
	payload, err := newStatement(name, files)
	if err != nil {
		return nil, err
	}
	b := bundle{MediaType: bundleType, Envelope: envelope{Payload: payload, PayloadType: payloadType}}
	b.Verification.LogEntries = []json.RawMessage{} // model_signing wants the list
	if len(certificates) > 0 {
		if b.Verification.Chain, err = chainFor(key, certificates); err != nil {
			return nil, err
		}
	} else {
		hint, err := KeyHint(&key.PublicKey)
		if err != nil {
			return nil, err
		}
		b.Verification.PublicKey = &publicKey{hint}
	}
	hash, err := hashOf(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	h := hash.New()
	h.Write(pae(payload))
	sig, err := ecdsa.SignASN1(rand.Reader, key, h.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	b.Envelope.Signatures = []oneSignature{{Sig: sig}}
	data, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("writing the signature: %w", err)
	}
	return data, nil
}

// chainFor puts the certificate of the key first.
func chainFor(key *ecdsa.PrivateKey, certificates []*x509.Certificate) (*chain, error) {
	if len(certificates) > maxCertificates {
		return nil, fmt.Errorf("signing: there are %d certificates, more than %d", len(certificates), maxCertificates)
	}
	at := slices.IndexFunc(certificates, func(c *x509.Certificate) bool { return key.PublicKey.Equal(c.PublicKey) })
	if at < 0 {
		return nil, errors.New("signing: none of the certificates is that of the key")
	}
	if err := mayCertify(certificates[at]); err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	made := &chain{Certificates: []certificate{{certificates[at].Raw}}}
	for i, c := range certificates {
		if i != at {
			made.Certificates = append(made.Certificates, certificate{c.Raw})
		}
	}
	return made, nil
}
