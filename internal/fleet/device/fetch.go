package device

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/picket-ml/picket/internal/fleet"
)

// path is where a package's file lies on this host: by its digest, so that two of one
// version are two.
func (a *Agent) path(p *fleet.Package) string {
	return filepath.Join(a.o.Dir, packagesDir, strings.TrimPrefix(p.Digest, "sha256:")+".tar.gz")
}

// fetch makes sure that the file is there and is the one that the documents mean.
func (a *Agent) fetch(ctx context.Context, p *fleet.Package) error {
	path := a.path(p)
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() == p.Size {
		return nil // it was checked when it came, and nobody else may write here
	}
	if a.o.Bucket == nil {
		return fmt.Errorf("getting the package %s: this device has no access to a bucket", p)
	}
	arrived := path + ".new"
	if err := a.o.Bucket.Download(ctx, p.File, arrived, p.Size); err != nil {
		return fmt.Errorf("getting the package %s from %s: %w", p, a.o.Bucket.URL(p.File), err)
	}
	if err := checkFile(ctx, arrived, p); err != nil {
		return errors.Join(fmt.Errorf("getting the package %s from %s: %w", p, a.o.Bucket.URL(p.File), err), os.Remove(arrived))
	}
	if err := os.Rename(arrived, path); err != nil {
		return fmt.Errorf("keeping the package %s: %w", p, err)
	}
	a.log.Info("a package has come", "package", p.String(), "bytes", p.Size)
	return nil
}

// checkFile compares a file with what the documents say of it.
func checkFile(ctx context.Context, path string, p *fleet.Package) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(f, p.Size+1))
	if err != nil {
		return err
	}
	if n != p.Size || hex.EncodeToString(sum.Sum(nil)) != p.SHA256 {
		return errors.New("it is another file than the one that the fleet's documents mean: it was changed, or is still being replaced")
	}
	return ctx.Err()
}

// sweep removes the packages that nothing leads to any more.
func (a *Agent) sweep() {
	keep := map[string]bool{}
	add := func(p *fleet.Package) {
		if p != nil {
			keep[filepath.Base(a.path(p))] = true
		}
	}
	for _, m := range a.state.Models {
		add(m.Serving)
		add(m.Before)
	}
	for _, w := range a.wanted {
		add(w.Package)
	}
	dir := filepath.Join(a.o.Dir, packagesDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		a.log.Warn("looking for packages that can go", "error", err)
		return
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".tar.gz") && !keep[name] {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				a.log.Warn("removing a package that nothing leads to", "error", err)
			}
		}
	}
	// What belongs to transfers of packages that are wanted no more.
	begun := filepath.Join(dir, transferDir)
	entries, _ = os.ReadDir(begun) // there may be none
	for _, e := range entries {
		if stem, _, _ := strings.Cut(e.Name(), ".tar.gz"); !keep[stem+".tar.gz"] {
			_ = os.Remove(filepath.Join(begun, e.Name())) // likewise
		}
	}
}

// transferDir is where a transfer keeps what has not come whole.
const transferDir = ".transfer"
