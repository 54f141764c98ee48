package packaging

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// BuildOptions say what to put into a package.
type BuildOptions struct {
	Name, Version string
	// Out is the file to write; Force replaces one that is there.
	Out   string
	Force bool
	// Variants are builds of one model. The first lies at top level, where old clients find it.
	Variants []BuildVariant
	// Signature is what the model takes and gives; nil for not saying so.
	Signature *Signature
	// Warmup is the warm-up file, of that many rows; nil for none. It needs Signature.
	Warmup     []byte
	WarmupRows int
	// Baseline is what the training set was like; nil for not saying so.
	Baseline *Baseline
}

// Baseline holds Model Monitor's files about a training set, whose content is not looked at.
type Baseline struct{ Statistics, Constraints []byte }

// BuildVariant is one of them.
type BuildVariant struct {
	Name string
	// Dir is the artifact's folder. Every file in it becomes part of the package, except a manifest and a signature of an
	// earlier one, warm-up rows and a baseline; folders, links and hidden files are refused.
	Dir      string
	Requires Requires
}

// Built is the package that was made.
type Built struct {
	Manifest *Manifest
	Digest   string
	Bytes    int64
}

// Build makes a package. It either writes the whole file or none.
func Build(ctx context.Context, o BuildOptions) (Built, error) {
	b, err := build(ctx, o)
	if err != nil {
		return Built{}, fmt.Errorf("building the package %s: %w", o.Out, err)
	}
	return b, nil
}

func build(ctx context.Context, o BuildOptions) (Built, error) {
	m := &Manifest{Name: o.Name, Version: o.Version, Signature: o.Signature}
	if err := errors.Join(CheckName(o.Name), CheckVersion(o.Version)); err != nil {
		return Built{}, err
	}
	contents := map[string]opener{}
	for i, v := range o.Variants {
		folder := topLevel
		if i > 0 {
			folder = variantsFolder + "/" + v.Name
		}
		m.Variants = append(m.Variants, Variant{Name: v.Name, Path: folder, Requires: v.Requires})
		closeDir, err := m.take(ctx, v.Dir, folder, contents)
		if err != nil {
			return Built{}, fmt.Errorf("the folder %s: %w", v.Dir, err)
		}
		defer closeDir()
	}
	add := func(name string, data []byte) {
		m.Files = append(m.Files, File{Path: name, Size: int64(len(data)), SHA256: hexDigest(data)})
		contents[name] = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	}
	if o.Warmup != nil {
		m.Warmup = &Warmup{File: WarmupName, Rows: o.WarmupRows}
		add(WarmupName, o.Warmup)
	}
	if b := o.Baseline; b != nil {
		add(StatisticsName, b.Statistics)
		add(ConstraintsName, b.Constraints)
	}
	slices.SortFunc(m.Files, func(x, y File) int { return strings.Compare(x.Path, y.Path) })
	slices.SortStableFunc(m.Variants, func(x, y Variant) int { return y.Requires.compare(x.Requires) })
	manifest, err := m.Encode()
	if err != nil {
		return Built{}, err
	}
	built := Built{Manifest: m, Digest: DigestOf(manifest)}
	err = create(o.Out, o.Force, func(f *os.File) error {
		w, err := newWriter(f)
		if err != nil {
			return err
		}
		if err := w.start(ctx, manifest, nil); err != nil {
			return err
		}
		for _, file := range m.Files {
			if err := w.copyFile(ctx, file, contents[file.Path]); err != nil {
				return err
			}
		}
		if err := w.finish(); err != nil {
			return err
		}
		built.Bytes = w.bytes
		return nil
	})
	return built, err
}

type opener func() (io.ReadCloser, error)

func hexDigest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// compare is positive where a host that meets both wants r more: a GPU, then a higher level, then more features.
func (r Requires) compare(o Requires) int {
	gpu := func(r Requires) int {
		if r.GPU != nil {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(gpu(r), gpu(o)), strings.Compare(r.Level, o.Level), cmp.Compare(len(r.Features), len(o.Features)))
}

// take puts the files of a folder into the manifest. contents opens them once more.
func (m *Manifest) take(ctx context.Context, dir, folder string, contents map[string]opener) (closeDir func(), err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = root.Close() // it was only read
		}
	}()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	for _, d := range entries {
		name := d.Name()
		switch {
		case ours(name):
			continue // of an earlier package
		case d.IsDir() && name == variantsFolder:
			continue // likewise
		case !d.Type().IsRegular():
			return nil, fmt.Errorf("%q is no plain file; a package has plain files only, so take it out, or copy what it links to", name)
		}
		if err := checkFileName(name); err != nil {
			return nil, err
		}
		path := name
		if folder != topLevel {
			path = folder + "/" + name
		}
		open := func() (io.ReadCloser, error) {
			e, closeFile, err := openEntry(root, name)
			if err != nil {
				return nil, err
			}
			return readCloser{e.content, closeFile}, nil
		}
		file, err := digestFile(ctx, path, open)
		if err != nil {
			return nil, err
		}
		m.Files = append(m.Files, file)
		contents[path] = open
		if strings.HasPrefix(name, "source_model.") && m.Source == nil {
			m.Source = &Source{File: name, SHA256: file.SHA256}
		}
	}
	return func() { _ = root.Close() }, nil
}

type readCloser struct {
	io.Reader
	closeFile func()
}

// Close implements io.Closer.
func (r readCloser) Close() error {
	r.closeFile()
	return nil
}

func digestFile(ctx context.Context, path string, open opener) (File, error) {
	r, err := open()
	if err != nil {
		return File{}, err
	}
	defer r.Close()
	c := newChecked(contextReader{ctx, r})
	if _, err := io.Copy(io.Discard, c); err != nil {
		return File{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return File{Path: path, Size: c.size, SHA256: hex.EncodeToString(c.digest.Sum(nil))}, nil
}

// copyFile writes a file that must be what it was when its digest was taken.
func (w *writer) copyFile(ctx context.Context, file File, open opener) error {
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	c := newChecked(r)
	if err := w.add(ctx, file.Path, file.Size, c); err != nil {
		return err
	}
	if c.is(file) != nil {
		return fmt.Errorf("%s was changed while it was packed", file.Path)
	}
	return nil
}
