package device

import (
	"context"
	"crypto/sha1" // the API has no other; the package's own signature is what counts
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/edge"
	"github.com/picket-ml/picket/packaging"
)

// maxResolved is how many packages that a server has named are remembered.
const maxResolved = 64

// fromServer is what the server wants, where the device has no documents: unsigned, so
// what comes is as good as its package's own signature, and may not be older than what
// has run.
func (a *Agent) fromServer(ctx context.Context) ([]fleet.Wanted, error) {
	if a.o.Client == nil {
		return nil, errors.New("the device has neither a root document nor a server to follow")
	}
	d, err := a.o.Client.Deployments(ctx, edge.Device{Name: a.o.Name, Fleet: a.o.Fleet})
	if err != nil {
		return nil, err
	}
	var all []fleet.Wanted
	seen := map[string]bool{}
	for _, one := range d.Deployments {
		for _, def := range one.Definitions {
			if def.State != edge.Deploy {
				continue
			}
			if err := packaging.CheckName(def.ModelHandle); err != nil || seen[def.ModelHandle] {
				return nil, fmt.Errorf("the server names the model %.80q, which is no name or is there twice", def.ModelHandle)
			}
			seen[def.ModelHandle] = true
			p, err := a.resolve(ctx, def)
			if err != nil {
				return nil, fmt.Errorf("getting what the server names for model %s: %w", def.ModelHandle, err)
			}
			all = append(all, fleet.Wanted{Model: def.ModelHandle, ID: one.DeploymentName, Package: p, New: true, Unsigned: true, Why: "the server says so"})
		}
	}
	return all, nil
}

// resolve finds out which package lies where a definition says: by getting it, the first
// time.
func (a *Agent) resolve(ctx context.Context, def edge.Definition) (*fleet.Package, error) {
	key, inside := strings.CutPrefix(def.S3URL, a.o.Bucket.URL(""))
	if !inside {
		return nil, fmt.Errorf("%.200q does not lie below %s", def.S3URL, a.o.Bucket.URL(""))
	}
	sum := strings.ToLower(def.Checksum.Sum)
	if def.Checksum.Type != "SHA1" || len(sum) != 2*sha1.Size {
		return nil, errors.New("its checksum is no SHA1")
	}
	name := key + "#" + sum
	if p, known := a.state.Resolved[name]; known {
		return &p, nil
	}
	if err := (fleet.Package{Name: "a", Version: "1", Digest: "sha256:" + strings.Repeat("0", 64), File: key, Size: 1, SHA256: strings.Repeat("0", 64), SHA1: sum}).Check(); err != nil {
		return nil, err
	}
	path := filepath.Join(a.o.Dir, packagesDir, "named-"+sum+".new")
	if err := a.o.Bucket.Download(ctx, key, path, fleet.AnySize); err != nil {
		return nil, fmt.Errorf("from %s: %w", def.S3URL, err)
	}
	defer func() { _ = os.Remove(path) }() // after an error, or of no effect
	p, err := describe(ctx, path, key)
	if err != nil {
		return nil, err
	}
	if p.SHA1 != sum {
		return nil, fmt.Errorf("%s is another file than the server means", def.S3URL)
	}
	if err := p.Check(); err != nil {
		return nil, err
	}
	if err := os.Rename(path, a.path(&p)); err != nil {
		return nil, err
	}
	if a.state.Resolved == nil || len(a.state.Resolved) >= maxResolved {
		a.state.Resolved = map[string]fleet.Package{}
	}
	a.state.Resolved[name] = p
	return &p, a.save()
}

// describe reads the name of a package and the digests of its file.
func describe(ctx context.Context, path, key string) (fleet.Package, error) {
	var p fleet.Package
	f, err := os.Open(path)
	if err != nil {
		return p, err
	}
	defer f.Close()
	archive, err := packaging.Open(ctx, f)
	if err != nil {
		return p, err
	}
	_ = archive.Close() // its manifest was read
	p = fleet.Package{Name: archive.Manifest.Name, Version: archive.Manifest.Version, Digest: archive.Digest(), File: key}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return p, err
	}
	long, short := sha256.New(), sha1.New() // as above
	if p.Size, err = io.Copy(io.MultiWriter(long, short), f); err != nil {
		return p, err
	}
	p.SHA256, p.SHA1 = hex.EncodeToString(long.Sum(nil)), hex.EncodeToString(short.Sum(nil))
	return p, nil
}
