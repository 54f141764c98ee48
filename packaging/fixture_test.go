package packaging

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// write makes a file, and the folders it needs.
func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// twoVariants are build options for a package of two small variants, with warm-up rows.
func twoVariants(t testing.TB) BuildOptions {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"base/compiled.so": "code for all", "base/compiled.meta": "{}", "base/source_model.txt": "trees",
		"fast/compiled.so": "code for few", "fast/source_model.txt": "trees",
	} {
		write(t, filepath.Join(dir, name), []byte(text))
	}
	return BuildOptions{
		Name: "fraud", Version: "3.1", Out: filepath.Join(dir, "fraud-3.1.tar.gz"),
		Variants: []BuildVariant{
			{Name: "x86-64", Dir: filepath.Join(dir, "base"), Requires: Requires{Arch: "amd64", Level: "x86-64-v1"}},
			{Name: "x86-64-v4", Dir: filepath.Join(dir, "fast"), Requires: Requires{Arch: "amd64", Level: "x86-64-v4", Features: []string{"avx512vbmi"}}},
		},
		Signature:  &Signature{Inputs: []Tensor{{"data", "FP32", []int64{-1, 2}}}, Outputs: []Tensor{{"output", "FP32", []int64{-1, 1}}}},
		Warmup:     []byte("row one.row two.ans1ans2"),
		WarmupRows: 2,
	}
}

// built builds a package and gives its bytes.
func built(t testing.TB, o BuildOptions) ([]byte, Built) {
	t.Helper()
	b, err := Build(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	return data, b
}

// memory is an archive that is no file, with a size to lie about.
type memory struct {
	*bytes.Reader
	size int64
}

func inMemory(data []byte) memory { return memory{bytes.NewReader(data), int64(len(data))} }

func (m memory) Stat() (fs.FileInfo, error) { return memoryInfo{size: m.size}, nil }

type memoryInfo struct {
	fs.FileInfo
	size int64
}

func (i memoryInfo) Size() int64       { return i.size }
func (i memoryInfo) Mode() fs.FileMode { return 0o644 }

// unpack opens an archive and unpacks it below root, or only looks at it.
func unpack(data []byte, root *os.Root) error {
	a, err := Open(context.Background(), inMemory(data))
	if err != nil {
		return err
	}
	defer a.Close()
	return a.Unpack(context.Background(), root)
}

// item is one entry of an archive that is made by hand.
type item struct {
	header tar.Header
	data   []byte
}

// plain is an entry as Build writes it.
func plain(name string, data []byte) item {
	return item{tar.Header{Format: tar.FormatUSTAR, Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644}, data}
}

// tarOf writes a tar archive, whatever is in it.
func tarOf(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range items {
		h := i.header
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("%q: %v", h.Name, err)
		}
		if _, err := w.Write(i.data); err != nil {
			t.Fatalf("%q: %v", h.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// rawHeader is a block of a tar archive with what archive/tar would not write.
func rawHeader(name string, flag byte, size string, change func(block []byte)) []byte {
	block := make([]byte, 512)
	copy(block, name)
	copy(block[100:], "0000644\x00")
	copy(block[108:], "0000000\x00")
	copy(block[116:], "0000000\x00")
	copy(block[124:], size+"\x00")
	copy(block[136:], "00000000000\x00")
	block[156] = flag
	copy(block[257:], "ustar\x0000")
	if change != nil {
		change(block)
	}
	copy(block[148:], "        ")
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
	return block
}

// compress is gzip as a package has it, without the frame's numbers.
func compress(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	w.Extra = frame{}.encode()[12:]
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// framed fills in the frame, so that an archive is refused for what is in it alone.
func framed(archive []byte) []byte {
	f := frame{int64(len(archive)), crc32.Checksum(archive[frameBytes:], castagnoli)}
	return append(f.encode(), archive[frameBytes:]...)
}

// manifestOf is a manifest over files, not checked, and in the order given.
func manifestOf(files ...File) []byte {
	var list []string
	for _, f := range files {
		list = append(list, fmt.Sprintf(`{"path":%s,"size":%d,"sha256":"%s"}`, quoted(f.Path), f.Size, f.SHA256))
	}
	return []byte(`{"metadata":{"model_name":"m","model_version":"1"},"picket":{"format":1,"variants":[{"name":"any","path":".","requires":{}}],"files":[` + strings.Join(list, ",") + `]}}`)
}

func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\' || r < ' ':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func fileOf(path string, data []byte) File {
	sum := sha256.Sum256(data)
	return File{path, int64(len(data)), hex.EncodeToString(sum[:])}
}

// snapshot is everything about a folder that a hostile archive could change.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	digest := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(digest, "%s %v %v %d\n", path, info.Mode(), info.ModTime(), info.Size())
		if info.Mode().IsRegular() {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(digest, f)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(digest.Sum(nil))
}

// openRoot opens a folder for the length of the test.
func openRoot(t testing.TB, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}
