package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/packaging"
	"github.com/picket-ml/picket/packaging/signing"
	"github.com/picket-ml/picket/tensor"
)

// maxPackages bounds the listing of the folder of packages.
const maxPackages = 100_000

// byName is a url that may be a package's name, alone or with a version.
var byName = regexp.MustCompile(`^([a-zA-Z0-9](?:-*[a-zA-Z0-9])*)(?:@([a-zA-Z0-9 _.]+))?$`)

// findByName opens the package of that name in the folder of packages; nil without an error where url is no name, or the
// name of nothing there and without a version, and may be a path.
func (s *Store) findByName(url string) (*spot, error) {
	m := byName.FindStringSubmatch(url)
	if m == nil {
		return nil, nil
	}
	name, version := m[1], m[2]
	if s.packages == "" {
		if version == "" {
			return nil, nil
		}
		return nil, fmt.Errorf("%w: there is no folder of packages to look for it; configure one as packages, or name the file", engine.ErrNotFound)
	}
	root, err := os.OpenRoot(s.packages)
	if errors.Is(err, fs.ErrNotExist) && version == "" {
		return nil, nil
	}
	if err != nil {
		return nil, because(err)
	}
	defer root.Close()
	file := packaging.FileName(name, version)
	if version == "" {
		if file, version, err = highestOf(root, name); err != nil {
			return nil, err
		}
		if file == "" {
			return nil, nil
		}
	}
	p, err := openSpot(s.packages+string(os.PathSeparator)+file, file, root)
	if err != nil {
		return nil, err
	}
	p.name, p.version = name, version
	return p, nil
}

// highestOf is the file with the highest version of a package; empty where there is none.
func highestOf(root *os.Root, name string) (file, version string, err error) {
	dir, err := root.Open(".")
	if err != nil {
		return "", "", because(err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxPackages + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", "", because(err)
	}
	if len(names) > maxPackages {
		return "", "", fmt.Errorf("%w: the folder of packages holds more than %d files", engine.ErrArtifact, maxPackages)
	}
	for _, one := range names {
		n, v, ok := packaging.SplitFileName(one)
		if !ok || n != name {
			continue
		}
		order := packaging.CompareVersions(v, version)
		if file == "" || order > 0 || order == 0 && one > file {
			file, version = one, v
		}
	}
	return file, version, nil
}

// isPackage tells whether a folder is a package that was unpacked: its manifest has our part. A manifest that has it and is
// not sound is an error, because whoever damaged it could make a signed package an unsigned folder otherwise.
func isPackage(root *os.Root) (bool, error) {
	info, err := root.Lstat(packaging.ManifestName)
	if err != nil || !info.Mode().IsRegular() || info.Size() > packaging.MaxManifestBytes {
		return false, nil //nolint:nilerr // then it is a folder like others, of which nobody vouches
	}
	data, err := root.ReadFile(packaging.ManifestName)
	if err != nil {
		return false, because(err)
	}
	_, err = packaging.ParseManifest(data)
	if err == nil {
		return true, nil
	}
	if _, signed := root.Lstat(packaging.SignatureName); signed == nil || errors.Is(err, packaging.ErrNewer) {
		return false, artifactError(err)
	}
	return false, nil
}

// artifactError gives an error of packaging the engine's kind.
func artifactError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, engine.ErrArtifact), errors.Is(err, engine.ErrMemory), errors.Is(err, engine.ErrTrust), errors.Is(err, engine.ErrCanceled), errors.Is(err, engine.ErrDeadline):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return canceled(err)
	case errors.Is(err, packaging.ErrFormat), errors.Is(err, packaging.ErrForeign), errors.Is(err, packaging.ErrNewer):
		return fmt.Errorf("%w: %w", engine.ErrArtifact, err)
	}
	return storing(err)
}

// openArchive opens a package that is one file.
func (s *Store) openArchive(ctx context.Context, url string, found *spot) (*engine.Artifact, error) {
	a, err := packaging.Open(ctx, found.file)
	if errors.Is(err, packaging.ErrForeign) {
		return s.openOld(ctx, url, found.file)
	}
	if err != nil {
		return nil, artifactError(err)
	}
	defer a.Close()
	if found.name != "" && (a.Manifest.Name != found.name || packaging.CompareVersions(a.Manifest.Version, found.version) != 0) {
		return nil, fmt.Errorf("%w: the file holds the package %s of version %s; its name must say so", engine.ErrTrust, a.Manifest.Name, a.Manifest.Version)
	}
	return s.openPackage(ctx, url, found.path, a)
}

// openUnpackedByOthers opens a package that lies unpacked where others may write. It is copied.
func (s *Store) openUnpackedByOthers(ctx context.Context, url string, found *spot) (*engine.Artifact, error) {
	a, err := packaging.OpenFolder(found.root)
	if err != nil {
		return nil, artifactError(err)
	}
	defer a.Close()
	return s.openPackage(ctx, url, found.path, a)
}

// openPackage decides about a package of which the manifest and the signature were read, unpacks it if that was not done
// yet, and opens the variant for this host. url is how the package was asked for, and path, absolute and clean, where it lies: of
// one place there are many urls.
func (s *Store) openPackage(ctx context.Context, url, path string, a *packaging.Archive) (*engine.Artifact, error) {
	p := &engine.Package{Name: a.Manifest.Name, Version: a.Manifest.Version, Digest: a.Digest()}
	vouched := s.vouchedFor(path)
	if vouched != (vouch{}) && vouched.digest != p.Digest {
		return nil, fmt.Errorf("%w: it has the digest %s, and must have %s", engine.ErrTrust, p.Digest, vouched.digest)
	}
	if err := s.judge(url, a, p, vouched.older); err != nil {
		return nil, err
	}
	chosen, variants := Choose(a.Manifest, s.host)
	p.Variants = variants
	if chosen < 0 {
		return nil, noneFits(variants)
	}
	if s.unpacked == nil {
		return nil, fmt.Errorf("%w: it cannot be unpacked, as the daemon has no state directory: start it with --state", engine.ErrArtifact)
	}
	variant := a.Manifest.Variants[chosen]
	files := a.Manifest.FilesOf(variant)
	wanted := slices.Concat(files, a.Manifest.Baseline())
	if a.Manifest.Warmup != nil {
		for _, f := range a.Manifest.Files {
			if f.Path == packaging.WarmupName {
				wanted = append(wanted, f)
			}
		}
	}
	digits := strings.TrimPrefix(p.Digest, "sha256:")
	fill := func(root *os.Root) error { return artifactError(a.Unpack(ctx, root)) }
	check := func(root *os.Root) error { return checkFiles(ctx, root, wanted) }
	root, dir, err := s.unpacked.get(ctx, digits, variant.Path, fill, check)
	if err != nil {
		return nil, err
	}
	artifact, err := artifactOf(url, root, dir, files)
	if err != nil {
		return nil, err
	}
	artifact.Package = p
	if err := s.describe(p, a.Manifest, digits); err != nil {
		_ = artifact.Close() // it was only read
		return nil, err
	}
	return artifact, nil
}

// checkFiles hashes files below root and fails where one is not what it should be.
func checkFiles(ctx context.Context, root *os.Root, files []packaging.File) error {
	for _, f := range files {
		if err := packaging.CheckFile(ctx, root, f); err != nil {
			return artifactError(err)
		}
	}
	return nil
}

// artifactOf makes an Artifact of exactly these files in root, which it takes over, also after an error.
func artifactOf(url string, root *os.Root, dir string, files []packaging.File) (*engine.Artifact, error) {
	a, err := engine.NewArtifact(url, root)
	if err != nil {
		_ = root.Close() // it was only read
		return nil, err
	}
	a.Dir, a.LeftOut = dir, nil // what else a package holds is no part of the variant
	own := make(map[string]bool, len(files))
	for _, f := range files {
		own[f.Path[strings.LastIndexByte(f.Path, '/')+1:]] = true
	}
	kept := a.Files[:0]
	for _, f := range a.Files {
		if own[f.Name] {
			kept = append(kept, f)
		}
	}
	a.Files = kept
	return a, nil
}

// describe tells the engine what the manifest promises of the model.
func (s *Store) describe(p *engine.Package, m *packaging.Manifest, digits string) error {
	if len(m.Baseline()) > 0 {
		data, err := s.unpacked.root.ReadFile(digits + "/" + packaging.StatisticsName)
		if err != nil {
			return storing(err)
		}
		p.Statistics = data
	}
	if m.Signature == nil {
		return nil
	}
	p.Signature = &engine.Signature{}
	for _, list := range []struct {
		from []packaging.Tensor
		to   *[]engine.TensorSpec
	}{{m.Signature.Inputs, &p.Signature.Inputs}, {m.Signature.Outputs, &p.Signature.Outputs}} {
		for _, t := range list.from {
			dtype, err := tensor.ParseDType(t.DType)
			if err != nil {
				return fmt.Errorf("%w: tensor %q: %w", engine.ErrArtifact, t.Name, err)
			}
			*list.to = append(*list.to, engine.TensorSpec{Name: t.Name, DType: dtype, Dims: t.Shape})
		}
	}
	if m.Warmup == nil {
		return nil
	}
	data, err := s.unpacked.root.ReadFile(digits + "/" + m.Warmup.File)
	if err != nil {
		return storing(err)
	}
	p.Warmup = &engine.Warmup{Rows: m.Warmup.Rows, Data: data}
	return nil
}

// judge decides whether the package may be loaded, and notes who signed it and what is to be done once it is. older tells
// that it may be older than one that has run.
func (s *Store) judge(url string, a *packaging.Archive, p *engine.Package, older bool) error {
	if s.trust == nil {
		if !s.unsigned {
			return fmt.Errorf("%w: the daemon trusts nobody's signature: configure trust, or start it with --unsigned", engine.ErrTrust)
		}
		s.log.Warn("opening a package of which no signature is checked, as --unsigned allows", "url", url, "package", p.Name, "version", p.Version, "digest", p.Digest)
		return nil
	}
	known, err := s.ledger.read()
	if err != nil {
		return fmt.Errorf("%w: %w", engine.ErrTrust, err)
	}
	now := s.ledger.time(known)
	signed, err := s.trust.Judge(a, now, known.Accepted[p.Digest])
	if errors.Is(err, errNotSigned) && s.unsigned {
		s.log.Warn("opening a package that is not signed, as --unsigned allows", "url", url, "package", p.Name, "version", p.Version, "digest", p.Digest)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", engine.ErrTrust, s.ledger.doubt(known, err))
	}
	if err := known.check(p.Name, p.Version, p.Digest); err != nil {
		if !older && !s.trust.allowsRollback(p.Name, p.Version) {
			return fmt.Errorf("%w: %w", engine.ErrTrust, err)
		}
		s.log.Warn("opening an older package, as trust.rollback or the fleet allows", "url", url, "package", p.Name, "version", p.Version, "digest", p.Digest)
	}
	p.Signer = signed.Signer.String()
	p.Accept = func() error { return s.accept(p, signed, now) }
	s.log.Info("package verified", "url", url, "package", p.Name, "version", p.Version, "digest", p.Digest, "signer", p.Signer)
	return nil
}

// accept records that the package serves.
func (s *Store) accept(p *engine.Package, signed *signing.Signed, at time.Time) error {
	dated := !signed.Signer.NotAfter.IsZero() && !at.After(signed.Signer.NotAfter)
	return s.ledger.accept(p.Name, p.Version, p.Digest, at, dated)
}

// openOld opens an archive of the old service, if its digest is trusted.
func (s *Store) openOld(ctx context.Context, url string, f *os.File) (*engine.Artifact, error) {
	if s.trust == nil || len(s.trust.old) == 0 {
		return nil, fmt.Errorf("%w; an archive of the old service is accepted by its digest under trust.packages, or unpacked with --unsigned", errNoFolder)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, because(err)
	}
	digest, err := packaging.DigestOfFile(ctx, f)
	if err != nil {
		return nil, artifactError(err)
	}
	if err := s.trust.acceptsOld(digest); err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrTrust, err)
	}
	digits := strings.TrimPrefix(digest, "sha256:")
	var files []packaging.File
	fill := func(root *os.Root) error {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return because(err)
		}
		list, err := packaging.UnpackOld(ctx, f, digest, root)
		if err != nil {
			return artifactError(err)
		}
		files = list
		return s.unpacked.writeList(digits, list)
	}
	check := func(root *os.Root) error {
		var err error
		if files, err = s.unpacked.readList(digits); err != nil {
			return fmt.Errorf("%w: the list of its files cannot be read", engine.ErrArtifact)
		}
		return checkFiles(ctx, root, files)
	}
	root, dir, err := s.unpacked.get(ctx, digits, ".", fill, check)
	if err != nil {
		return nil, err
	}
	a, err := artifactOf(url, root, dir, files)
	if err != nil {
		return nil, err
	}
	m, err := ReadManifest(a)
	if err != nil {
		s.log.Warn("reading a package's manifest", "url", url, "error", err)
	}
	a.Package = &engine.Package{Name: m.Name, Version: m.Version, Digest: digest}
	s.log.Warn("opening a package of the old service, whose signature cannot be checked, as trust.packages allows", "url", url, "package", m.Name, "version", m.Version, "digest", digest)
	return a, nil
}
