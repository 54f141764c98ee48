package pipeline

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is a file of a folder.
type file struct {
	Path   string `json:"path"` // below the folder, with slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`

	from string // where it lies
}

// seen is what the file system says of a file. As long as that stays, so does the digest that was taken: a file cannot be
// changed without its ctime, which nobody can set.
type seen struct {
	Size   int64  `json:"size"`
	MTime  int64  `json:"mtime"`
	CTime  int64  `json:"ctime"`
	Inode  uint64 `json:"inode"`
	Device uint64 `json:"device"`
	SHA256 string `json:"sha256"`
}

// sameFile tells whether both are of one state of one file.
func (s seen) sameFile(o seen) bool {
	s.SHA256, o.SHA256 = "", ""
	return s == o
}

func seenOf(info fs.FileInfo) seen {
	s := seen{Size: info.Size(), MTime: info.ModTime().UnixNano()}
	s.CTime, s.Inode, s.Device = identity(info)
	return s
}

const (
	maxFiles = 100_000
	maxDepth = 16
	// settled is how long ago a file must have been changed for its digest to be remembered.
	settled = 2 * time.Second
)

// listFiles lists the files of a folder, or the one file that path is, sorted, without their digests. Hidden files are left
// out, as those of editors are; links and anything else that is no plain file are refused: what they stand for is not in the
// folder.
func listFiles(dir string) ([]file, error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() {
		return []file{{Path: filepath.Base(dir), Size: info.Size(), from: dir}}, nil
	}
	if info.Mode()&fs.ModeSymlink != 0 { // the one that the pipeline's file names may be one
		if dir, err = filepath.EvalSymlinks(dir); err != nil {
			return nil, err
		}
	}
	var files []file
	err = filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || at == dir {
			return err
		}
		below, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		below = filepath.ToSlash(below)
		switch {
		case strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			if strings.Count(below, "/") >= maxDepth {
				return fmt.Errorf("%s is nested more than %d folders deep", below, maxDepth)
			}
			return nil
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is no plain file: take it out, or put a copy of what it links to there", below)
		case len(files) == maxFiles:
			return fmt.Errorf("it has more than %d files", maxFiles)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files = append(files, file{Path: below, Size: info.Size(), from: at})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("there is no file in it")
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.Path, b.Path) })
	return files, nil
}

// digestFiles takes the digests of files. known has those of earlier, by where they lie; what is new is put there.
func digestFiles(ctx context.Context, files []file, known map[string]seen) error {
	for i := range files {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := files[i].takeDigest(ctx, known); err != nil {
			return err
		}
	}
	return nil
}

func (f *file) takeDigest(ctx context.Context, known map[string]seen) error {
	opened, err := os.Open(f.from)
	if err != nil {
		return err
	}
	defer opened.Close()
	info, err := opened.Stat()
	if err != nil {
		return err
	}
	now := seenOf(info)
	if before, ok := known[f.from]; ok && before.sameFile(now) {
		f.Size, f.SHA256 = before.Size, before.SHA256
		return nil
	}
	digest := sha256.New()
	n, err := io.Copy(digest, contextReader{ctx, opened})
	if err != nil {
		return fmt.Errorf("reading %s: %w", f.from, err)
	}
	if info, err = opened.Stat(); err != nil {
		return err
	}
	if !seenOf(info).sameFile(now) || n != now.Size {
		return fmt.Errorf("%s was changed while it was read: run again when it is complete", f.from)
	}
	now.SHA256 = hex.EncodeToString(digest.Sum(nil))
	f.Size, f.SHA256 = n, now.SHA256
	// Clocks of file systems tick slowly: what was changed just now could be changed again without a trace.
	if known != nil && time.Since(time.Unix(0, now.CTime)) > settled {
		known[f.from] = now
	}
	return nil
}

// contextReader ends reading with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (r contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// digestOf stands for files and their names.
func digestOf(files []file) string {
	digest := sha256.New()
	for _, f := range files {
		fmt.Fprintf(digest, "%s\x00%d\x00%s\n", f.Path, f.Size, f.SHA256)
	}
	return hex.EncodeToString(digest.Sum(nil))
}

// digestFolder is digestOf of all that is in a folder.
func digestFolder(ctx context.Context, dir string) (string, error) {
	files, err := listFiles(dir)
	if err != nil {
		return "", err
	}
	if err := digestFiles(ctx, files, nil); err != nil {
		return "", err
	}
	return digestOf(files), nil
}

// digestFile is the SHA-256 of a file.
func digestFile(ctx context.Context, name string) (string, error) {
	f := file{Path: path.Base(name), from: name}
	err := f.takeDigest(ctx, nil)
	return f.SHA256, err
}

// sumBytes is what files have together.
func sumBytes(files []file) (n int64) {
	for _, f := range files {
		n += f.Size
	}
	return n
}
