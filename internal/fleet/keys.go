package fleet

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/picket-ml/picket/internal/durable"
)

// Files of a folder of keys. Root keys are all that begin with root, and belong on a
// disk in a safe; the targets key with the operator; the online key with the server.
const (
	rootKeyPrefix  = "root"
	targetsKeyFile = "targets.pem"
	onlineKeyFile  = "online.pem"
	// RootFile is the root document that devices are given.
	RootFile = "root.json"
)

// Keys are those that a folder holds; roles without one cannot be signed for.
type Keys struct {
	Root            []Key
	Targets, Online *Key
}

// Key is a private key that signs, and its file.
type Key struct {
	File   string
	ID     string
	signer signature.Signer
	public *metadata.Key
}

// ReadKeys reads the keys in a folder. Others than the owner must not be able to read
// them.
func ReadKeys(dir string) (Keys, error) {
	var k Keys
	names, err := os.ReadDir(dir)
	if err != nil {
		return k, fmt.Errorf("reading the fleet's keys: %w", err)
	}
	for _, n := range names {
		name := n.Name()
		if !strings.HasSuffix(name, ".pem") {
			continue
		}
		root := strings.HasPrefix(name, rootKeyPrefix)
		if !root && name != targetsKeyFile && name != onlineKeyFile {
			continue
		}
		key, err := readKey(filepath.Join(dir, name))
		if err != nil {
			return k, err
		}
		switch {
		case root:
			k.Root = append(k.Root, *key)
		case name == targetsKeyFile:
			k.Targets = key
		default:
			k.Online = key
		}
	}
	return k, nil
}

func readKey(path string) (*Key, error) {
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("reading the key %s: others than its owner may read it; run chmod 600 on it", path)
	}
	var data []byte
	if err == nil {
		data, err = readFile(path, 64<<10)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key %s: %w", path, err)
	}
	block, rest := pem.Decode(data)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("reading the key %s: it is no PEM file with one key", path)
	}
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		err = fmt.Errorf("it holds a %.40q, not a private key", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key %s: %w", path, err)
	}
	k, err := newKey(key)
	if err != nil {
		return nil, fmt.Errorf("reading the key %s: %w", path, err)
	}
	k.File = path
	return k, nil
}

func newKey(private any) (*Key, error) {
	var public crypto.PublicKey
	hash := crypto.Hash(0)
	switch k := private.(type) {
	case ed25519.PrivateKey:
		public = k.Public()
	case *ecdsa.PrivateKey:
		switch k.Curve {
		case elliptic.P256():
			hash = crypto.SHA256
		case elliptic.P384():
			hash = crypto.SHA384
		default:
			return nil, errors.New("its curve is neither P-256 nor P-384")
		}
		public = k.Public()
	default:
		return nil, fmt.Errorf("it is a %T, and neither Ed25519 nor ECDSA", private)
	}
	signer, err := signature.LoadSigner(private, hash)
	if err != nil {
		return nil, err
	}
	described, err := metadata.KeyFromPublicKey(public)
	if err != nil {
		return nil, err
	}
	id, err := described.ID()
	return &Key{ID: id, signer: signer, public: described}, err
}

// makeKey writes a new Ed25519 key where there is no file.
func makeKey(path string) (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("making the key %s: something is there already", path)
	}
	if err := durable.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, fmt.Errorf("making the key %s: %w", path, err)
	}
	return readKey(path)
}

// MakeKeys makes the keys that a folder does not have: one root key, unless there are
// some, the targets key and the online key. It says which it made.
func MakeKeys(dir string) (k Keys, made []string, err error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return k, nil, fmt.Errorf("making the folder of keys: %w", err)
	}
	if k, err = ReadKeys(dir); err != nil {
		return k, nil, err
	}
	add := func(name string) *Key {
		if err != nil {
			return nil
		}
		var key *Key
		if key, err = makeKey(filepath.Join(dir, name)); err == nil {
			made = append(made, key.File)
		}
		return key
	}
	if len(k.Root) == 0 {
		if key := add(rootKeyPrefix + ".pem"); key != nil {
			k.Root = []Key{*key}
		}
	}
	if k.Targets == nil {
		k.Targets = add(targetsKeyFile)
	}
	if k.Online == nil {
		k.Online = add(onlineKeyFile)
	}
	return k, made, err
}

// without is the root keys without one.
func without(keys []Key, id string) []Key {
	return slices.DeleteFunc(slices.Clone(keys), func(k Key) bool { return k.ID == id })
}
