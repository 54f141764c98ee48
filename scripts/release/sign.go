package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/picket-ml/picket/packaging/signing"
)

// signatureName is the signature of a release, which is over all other files: made as
// that of a package is, and in the place where model_signing looks for it.
const signatureName = "release.sig"

// sign signs all files of a directory, and puts the signature beside them.
func sign(dir, keyFile string) error {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return fmt.Errorf("reading the key: %w", err)
	}
	key, err := signing.ParsePrivateKey(text)
	if err != nil {
		return fmt.Errorf("reading the key %s: %w", keyFile, err)
	}
	files, err := digests(dir)
	if err != nil {
		return fmt.Errorf("signing %s: %w", dir, err)
	}
	if len(files) == 0 {
		return fmt.Errorf("signing %s: there is no file in it", dir)
	}
	signature, err := signing.Sign("picket", files, key, nil)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, signatureName), signature, 0o644); err != nil {
		return fmt.Errorf("signing %s: %w", dir, err)
	}
	return nil
}

// verify fails unless the directory holds exactly the files that the key has signed.
func verify(stdout io.Writer, dir, keyFile string) error {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return fmt.Errorf("reading the key: %w", err)
	}
	keys, err := signing.ParsePublicKeys(text)
	if err != nil {
		return fmt.Errorf("reading the key %s: %w", keyFile, err)
	}
	signature, err := os.ReadFile(filepath.Join(dir, signatureName))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("verifying %s: it is not signed, %s is missing", dir, signatureName)
	}
	if err != nil {
		return fmt.Errorf("verifying %s: %w", dir, err)
	}
	trust := signing.Trust{Keys: keys}
	signed, err := trust.Verify(signature)
	if err != nil {
		return fmt.Errorf("verifying %s: %w", dir, err)
	}
	files, err := digests(dir)
	if err != nil {
		return fmt.Errorf("verifying %s: %w", dir, err)
	}
	if err := signed.Match(files); err != nil {
		return fmt.Errorf("verifying %s: %w", dir, err)
	}
	_, err = fmt.Fprintf(stdout, "%d files, signed by %v\n", len(files), signed.Signer)
	return err
}

// digests are the SHA-256 of the files in a directory, by name, but for the signature.
func digests(dir string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == signatureName {
			return err
		}
		if !entry.Type().IsRegular() {
			return fmt.Errorf("%s is not a plain file, which is all that a release has", name)
		}
		files[filepath.ToSlash(name)], err = digest(path)
		return err
	})
	return files, err
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
