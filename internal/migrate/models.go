package migrate

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/packaging"
)

// How much of a folder is looked at for models: more than an agent's, less than a disk.
const (
	maxDepth   = 6
	maxEntries = 50_000
)

// maxName is the longest name of a model.
const maxName = 63

// Model is one that the old installation has.
type Model struct {
	// Name is what it is served as, Package and Version what it says of itself, where it does.
	Name    string `json:"name"`
	Package string `json:"package,omitempty"`
	Version string `json:"version,omitempty"`
	// From is its folder or archive, Path what picketd loads, and Digest that of the archive, by which it is trusted; empty
	// for a folder that is loaded as it is.
	From   string `json:"from"`
	Path   string `json:"path"`
	Digest string `json:"digest,omitempty"`

	archive bool // From is an archive
}

// findModels looks for models below the folders: folders with an artifact of Neo, and archives of the packaging job. What is
// in the folder ours is picketd's own.
func findModels(ctx context.Context, dirs []string, ours string) (models []Model, notes []Note, err error) {
	entries, seen := 0, map[string]bool{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
			if entries++; entries > maxEntries {
				return fmt.Errorf("there are more than %d files in it; name the folder with the models", maxEntries)
			}
			below, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			switch {
			case seen[path]:
				return nil
			case d.IsDir() && strings.Count(below, string(filepath.Separator)) >= maxDepth, d.IsDir() && (path == ours || d.Name() == "lost+found"):
				return fs.SkipDir
			case d.IsDir():
				m, is, err := modelFolder(path)
				if err != nil || !is {
					return err
				}
				seen[path] = true
				models = append(models, m)
				return fs.SkipDir
			case d.Type().IsRegular() && strings.HasSuffix(path, ".tar.gz"):
				m, note, err := modelArchive(ctx, path)
				if err != nil {
					return err
				}
				seen[path] = true
				if note != "" {
					notes = append(notes, Note{path, note})
				} else {
					models = append(models, m)
				}
			}
			return nil
		})
		if err != nil {
			return nil, nil, fmt.Errorf("looking for models in %s: %w", dir, err)
		}
	}
	return models, notes, nil
}

// modelFolder tells whether a folder is a model's, by the files that the agent and libdlr know it by.
func modelFolder(path string) (Model, bool, error) {
	list, err := os.ReadDir(path)
	if err != nil {
		return Model{}, false, err
	}
	is, described := false, false
	for _, d := range list {
		switch name := d.Name(); {
		case name == packaging.ManifestName:
			is, described = true, true
		case name == "compiled.meta", name == "compiled.so", name == "compiled_model.so", name == "saved_model.pb",
			strings.HasSuffix(name, ".params"), strings.HasSuffix(name, ".ro"):
			is = true
		}
	}
	m := Model{From: path}
	if described {
		text, err := readText(filepath.Join(path, packaging.ManifestName))
		if err != nil {
			return Model{}, false, err
		}
		if m.Package, m.Version, err = packaging.ParseOldManifest(text); err != nil {
			m.Package, m.Version = "", "" // it is informative: such a folder was loaded by the agent, or not, for other reasons
		}
	}
	return m, is, nil
}

// modelArchive reads what an archive says of itself. note says why it is none of the old service.
func modelArchive(ctx context.Context, path string) (m Model, note string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return m, "", err
	}
	defer f.Close()
	if a, err := packaging.Open(ctx, f); err == nil {
		return m, "is a package of Picket's own: picket load takes it as it is, if it is signed", a.Close()
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return m, "", err
	}
	const none = "is no archive of the packaging job, and is left alone"
	zip, err := gzip.NewReader(f)
	if err != nil {
		return m, none, nil
	}
	t := tar.NewReader(io.LimitReader(zip, packaging.MaxBytes))
	for range packaging.MaxFiles {
		h, err := t.Next()
		if err != nil {
			return m, none, nil
		}
		if strings.TrimPrefix(h.Name, "./") != packaging.ManifestName {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(t, packaging.MaxManifestBytes))
		if err != nil {
			return m, none, nil
		}
		m.From, m.archive = path, true
		if m.Package, m.Version, err = packaging.ParseOldManifest(text); err != nil {
			return m, none, nil
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return m, "", err
		}
		m.Digest, err = packaging.DigestOfFile(ctx, f)
		return m, "", err
	}
	return m, none, nil
}

// nameModels gives each model the name that it is served as: that of the package, else that of the folder. Of several packages
// of one name the highest version has it, and the others have their version behind it.
func nameModels(models []Model, given map[string]string) error {
	for path := range given {
		if !slices.ContainsFunc(models, func(m Model) bool { return m.From == path }) {
			return fmt.Errorf("there is no model in %s", path)
		}
	}
	slices.SortStableFunc(models, func(a, b Model) int {
		if c := strings.Compare(a.Package, b.Package); c != 0 {
			return c
		}
		return packaging.CompareVersions(b.Version, a.Version)
	})
	taken := map[string]bool{}
	for _, name := range given {
		if err := engine.CheckName(name); err != nil {
			return err
		}
		if taken[name] {
			return fmt.Errorf("two models are to be called %s", name)
		}
		taken[name] = true
	}
	for i := range models {
		m := &models[i]
		if name, is := given[m.From]; is {
			m.Name = name
			continue
		}
		base := m.Package
		if base == "" {
			base = strings.TrimSuffix(filepath.Base(m.From), ".tar.gz")
		}
		name := asName(base)
		for n := 1; taken[name]; n++ {
			var behind string
			if m.Version != "" {
				behind = "-" + asName(m.Version[:min(len(m.Version), 30)])
			}
			if n > 1 || behind == "" {
				behind += fmt.Sprintf("-%d", n)
			}
			name = asName(asName(base)[:min(len(asName(base)), maxName-len(behind))] + behind)
		}
		taken[name] = true
		m.Name = name
	}
	return nil
}

// withoutCopies leaves of a folder and the archive that it was unpacked from only the archive, which is what was signed.
func withoutCopies(models []Model) []Model {
	archives := map[[2]string]bool{}
	for _, m := range models {
		if m.archive {
			archives[[2]string{m.Package, m.Version}] = true
		}
	}
	return slices.DeleteFunc(models, func(m Model) bool { return !m.archive && m.Package != "" && archives[[2]string{m.Package, m.Version}] })
}

// asName makes a name of any text, as the old clients did: what a name cannot have becomes a hyphen.
func asName(text string) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, text), "-")
	if name = strings.Trim(name[:min(len(name), maxName)], "-"); name == "" {
		return "model"
	}
	return name
}

// pack writes the archive of a model's folder, and gives its digest.
func pack(ctx context.Context, w io.Writer, dir string) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	digest := sha256.New()
	if err := packaging.PackOld(ctx, io.MultiWriter(w, digest), root); err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	return "sha256:" + hex.EncodeToString(digest.Sum(nil)), nil
}

// copyArchive copies an archive that must have that digest.
func copyArchive(ctx context.Context, w io.Writer, path, digest string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	is, err := packaging.DigestOfFile(ctx, io.TeeReader(f, w))
	if err == nil && is != digest {
		err = errors.New("it was changed while it was read; try again")
	}
	if err != nil {
		return fmt.Errorf("copying %s: %w", path, err)
	}
	return nil
}
