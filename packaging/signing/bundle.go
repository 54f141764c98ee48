package signing

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/picket-ml/picket/packaging"
)

const (
	bundleType    = "application/vnd.dev.sigstore.bundle.v0.3+json"
	payloadType   = "application/vnd.in-toto+json"
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://model_signing/signature/v1.0"

	maxDepth        = 16
	maxCertificates = 10
)

// bundle is Sigstore's, as far as model signing uses it. What else the format allows is named, so that it can be refused
// by name.
type bundle struct {
	MediaType    string   `json:"mediaType"`
	Verification material `json:"verificationMaterial"`
	Envelope     envelope `json:"dsseEnvelope"`
}

type material struct {
	PublicKey   *publicKey       `json:"publicKey,omitempty"`
	Chain       *chain           `json:"x509CertificateChain,omitempty"`
	Certificate *json.RawMessage `json:"certificate,omitempty"` // of keyless signing
	// Log entries and time stamps come with keyless signing.
	LogEntries []json.RawMessage `json:"tlogEntries"`
	TimeStamps *json.RawMessage  `json:"timestampVerificationData,omitempty"`
}

type publicKey struct {
	Hint string `json:"hint"`
}

type chain struct {
	Certificates []certificate `json:"certificates"`
}

type certificate struct {
	Raw []byte `json:"rawBytes"`
}

type envelope struct {
	Payload     []byte         `json:"payload"`
	PayloadType string         `json:"payloadType"`
	Signatures  []oneSignature `json:"signatures"`
}

type oneSignature struct {
	Sig   []byte `json:"sig"`
	KeyID string `json:"keyid"`
}

// pae is what is signed: DSSE's encoding of a payload and its type.
func pae(payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

func parseBundle(data []byte) (*bundle, error) {
	if len(data) > packaging.MaxSignatureBytes {
		return nil, bad("it is larger than %d bytes", packaging.MaxSignatureBytes)
	}
	var b bundle
	if err := parseStrict(data, &b); err != nil {
		return nil, bad("%w", err)
	}
	switch {
	case b.MediaType != bundleType:
		return nil, bad("it is %.80q, this program reads %s", b.MediaType, bundleType)
	case b.Verification.Certificate != nil:
		return nil, bad("it was made without a key, by a certificate of the moment, which is not supported: sign with a key or a certificate of your own")
	case (b.Verification.PublicKey == nil) == (b.Verification.Chain == nil):
		return nil, bad("it must name one key or one chain of certificates")
	case b.Verification.Chain != nil && (len(b.Verification.Chain.Certificates) == 0 || len(b.Verification.Chain.Certificates) > maxCertificates):
		return nil, bad("it has %d certificates, it must be 1 to %d", len(b.Verification.Chain.Certificates), maxCertificates)
	case b.Envelope.PayloadType != payloadType:
		return nil, bad("what is signed is %.80q, not %s", b.Envelope.PayloadType, payloadType)
	case len(b.Envelope.Signatures) != 1:
		return nil, bad("it has %d signatures, it must be 1", len(b.Envelope.Signatures))
	}
	return &b, nil
}

// parseStrict reads a document that can be read in one way only.
func parseStrict(data []byte, into any) error {
	if err := packaging.CheckJSON(data, maxDepth); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}
