package spool

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"github.com/picket-ml/picket/internal/capture"
)

// What is on disk can be read by whom it was encrypted for and by nobody else: not by another identity, and not as bytes.
func TestEncrypted(t *testing.T) {
	for _, beside := range []int64{1 << 20, 8} { // tensors in the record, and in files beside it
		dir := t.TempDir()
		mine, other := newIdentity(t), newIdentity(t)
		o := Options{Dir: dir, Recipients: []age.Recipient{mine.Recipient()}, BesideBytes: beside}
		s := open(t, o)
		secret := []byte("four hundred and twelve euros and ten cents!")
		e := sample(1)
		e.Parts[0].Inference = "inference-of-a-customer"
		e.Inputs[0].Data = append([]byte{}, secret...)
		e.Inputs[0].Shape = []int64{1, int64(len(secret) / 4)}
		if err := s.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%v, %v", files, err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(content, secret[:16]) || bytes.Contains(content, []byte("inference-of")) {
				t.Errorf("%s says what was captured", filepath.Base(file))
			}
		}
		for name, with := range map[string][]age.Identity{"nobody": nil, "another": {other}, "its owner": {mine}, "both": {other, mine}} {
			o := Options{Dir: dir, ReadOnly: true, Identities: with}
			s := open(t, o)
			var bad error
			records := s.readAll(func(err error) { bad = errors.Join(bad, err) })
			if may := name == "its owner" || name == "both"; may && (bad != nil || len(records) != 1 || !bytes.Equal(dataOf(t, s, &records[0].Inputs[0]), secret)) {
				t.Errorf("%s reads %v, %v", name, records, bad)
			} else if !may && (len(records) != 0 || !errors.Is(bad, ErrKey)) {
				t.Errorf("%s reads %v, %v", name, records, bad)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// dataOf is what was captured of a tensor, in its record or beside it.
func dataOf(t *testing.T, s *Spool, tensor *capture.Tensor) []byte {
	t.Helper()
	if tensor.Beside == nil {
		return tensor.Data
	}
	data, err := s.Beside(tensor.Beside)
	if err != nil {
		t.Error(err)
	}
	return data
}

func newIdentity(t *testing.T) *age.X25519Identity {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return identity
}
