package spool

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"

	"filippo.io/age"
)

const keySize = 32

// segmentKey is what one segment is encrypted with.
type segmentKey struct {
	raw  [keySize]byte
	aead cipher.AEAD
}

// newSegmentKey makes a key, and the age file that holds it for the recipients.
func newSegmentKey(to []age.Recipient) (*segmentKey, []byte, error) {
	k := &segmentKey{}
	_, _ = rand.Read(k.raw[:]) // it never fails
	var file bytes.Buffer
	w, err := age.Encrypt(&file, to...)
	if err == nil {
		if _, err = w.Write(k.raw[:]); err == nil {
			err = w.Close()
		}
	}
	if err == nil {
		k.aead, err = newAEAD(k.raw[:])
	}
	if err != nil {
		return nil, nil, fmt.Errorf("encrypting a segment's key: %w", err)
	}
	return k, file.Bytes(), nil
}

// openSegmentKey reads the key from its age file.
func openSegmentKey(file []byte, with []age.Identity) (*segmentKey, error) {
	if len(with) == 0 {
		return nil, ErrKey
	}
	r, err := age.Decrypt(bytes.NewReader(file), with...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	k := &segmentKey{}
	if _, err := io.ReadFull(r, k.raw[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if k.aead, err = newAEAD(k.raw[:]); err != nil {
		return nil, err
	}
	return k, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// nonce of a batch. A segment has one batch that begins with a number, and a key of its
// own.
func nonce(first uint64) []byte {
	return append(le.AppendUint64(make([]byte, 0, 12), first), 0, 0, 0, 0)
}

// seal encrypts the payload of batch b, which has room for its header, to the same place
// in into, which it returns, grown as need be.
func (k *segmentKey) seal(into, b []byte, h *batchHeader) []byte {
	into = append(into[:0], b[:batchSize]...)
	return k.aead.Seal(into, nonce(h.first), b[batchSize:], h.additional())
}

func (k *segmentKey) open(payload []byte, h *batchHeader) ([]byte, error) {
	clear, err := k.aead.Open(nil, nonce(h.first), payload, h.additional())
	if err != nil {
		return nil, fmt.Errorf("%w: a batch does not open with its segment's key", ErrDamaged)
	}
	return clear, nil
}

// additional is what else of a batch cannot be changed unnoticed.
func (h *batchHeader) additional() []byte {
	b := le.AppendUint64(nil, h.salt)
	b = le.AppendUint64(b, h.first)
	return le.AppendUint32(b, h.records)
}

// forFile is the cipher of a file beside the segment.
func (k *segmentKey) forFile(name string) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, k.raw[:], nil, name, keySize)
	if err != nil {
		return nil, err
	}
	return newAEAD(derived)
}

// sealFile encrypts what goes beside the segment, and openFile is its reverse.
func (k *segmentKey) sealFile(name string, data []byte) ([]byte, error) {
	c, err := k.forFile(name)
	if err != nil {
		return nil, err
	}
	return c.Seal(nil, make([]byte, c.NonceSize()), data, nil), nil
}

func (k *segmentKey) openFile(name string, sealed []byte) ([]byte, error) {
	c, err := k.forFile(name)
	if err != nil {
		return nil, err
	}
	data, err := c.Open(nil, make([]byte, c.NonceSize()), sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: a file beside the segment does not open with its key", ErrDamaged)
	}
	return data, nil
}
