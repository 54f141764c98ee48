package packaging

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
)

// hostilePaths must not be the name of a file, whoever says them.
func hostilePaths() []string {
	return []string{
		"..", "../escaped", "../../escaped", "a/../../escaped", "variants/../../escaped", "a/..", "/escaped", "//escaped", "/etc/passwd",
		"/", "", "./a", ".", "a//b", "a/", "a/./b", ".hidden", "a/.hidden", ".unpack-1", "-rf", "a/-rf", "a\\b", "..\\escaped", "C:\\escaped", "c:escaped",
		"a b", " a", "a\nb", "a\tb", "a\x7fb", "\x1b[31m", "a:b", "a*b", "a?b", "a|b", "a<b", "a\"b", "~", "~root", "$HOME", "%2e%2e", "é", "．．/escaped",
		"\u202egnp.so", "\u2028", "a/b/c/d", strings.Repeat("a", 4096), strings.Repeat("a/", 2048) + "a", strings.Repeat("a", 201),
	}
}

// payload is what hostile archives try to put somewhere.
var payload = []byte("owned")

// hostileArchive is one that must be refused.
type hostileArchive struct {
	name string
	data []byte
	says string
}

// hostileArchives are archives that have a sound manifest, unless that is what is wrong with them.
func hostileArchives(t testing.TB) []hostileArchive {
	t.Helper()
	good := fileOf("model.so", payload)
	manifest := plain(ManifestName, manifestOf(good))
	sound := tarOf(t, manifest, plain("model.so", payload))
	var list []hostileArchive
	add := func(name, says string, tarred []byte) {
		list = append(list, hostileArchive{name, framed(compress(t, tarred)), says})
	}
	for _, path := range hostilePaths() {
		add(fmt.Sprintf("manifest names %.40q", path), "", tarOf(t, plain(ManifestName, manifestOf(fileOf(path, payload)))))
		if path != "" && path != "." && !strings.HasSuffix(path, "/") { // what archive/tar itself would not write as a file
			i := plain(path, payload)
			i.header.Format = tar.FormatGNU
			add(fmt.Sprintf("entry is called %.40q", path), "", tarOf(t, manifest, i))
		}
	}
	odd := func(name, says string, change func(h *tar.Header)) {
		i := plain("model.so", payload)
		change(&i.header)
		if i.header.Typeflag != tar.TypeReg {
			i.header.Size, i.data = 0, nil
		}
		add(name, says, tarOf(t, manifest, i))
	}
	odd("hard link out", "hard link", func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeLink, "../outside/secret" })
	odd("hard link to an absolute path", "hard link", func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeLink, "/etc/passwd" })
	odd("symbolic link out", "symbolic link", func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeSymlink, "../outside/secret" })
	odd("symbolic link inside", "symbolic link", func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeSymlink, ManifestName })
	odd("character device", "device", func(h *tar.Header) { h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, 1, 5 })
	odd("block device", "device", func(h *tar.Header) { h.Typeflag = tar.TypeBlock })
	odd("named pipe", "named pipe", func(h *tar.Header) { h.Typeflag = tar.TypeFifo })
	odd("folder", "folder", func(h *tar.Header) { h.Typeflag, h.Name = tar.TypeDir, "model.so/" })
	odd("contiguous file", "of type", func(h *tar.Header) { h.Typeflag = tar.TypeCont })
	odd("set-user-ID", "a mode", func(h *tar.Header) { h.Mode = 0o4755 })
	odd("set-group-ID", "a mode", func(h *tar.Header) { h.Mode = 0o2755 })
	odd("sticky", "a mode", func(h *tar.Header) { h.Mode = 0o1777 })
	odd("writable for all", "a mode", func(h *tar.Header) { h.Mode = 0o666 })
	odd("of a user", "a mode", func(h *tar.Header) { h.Uid = 1000 })
	odd("of a named user", "a mode", func(h *tar.Header) { h.Uname = "root" })
	odd("with a time", "a mode", func(h *tar.Header) { h.ModTime = time.Unix(1, 0) })
	odd("with a link name", "a mode", func(h *tar.Header) { h.Linkname = "x" })
	odd("extended header", "extension", func(h *tar.Header) { h.Format, h.PAXRecords = tar.FormatPAX, map[string]string{"PICKET.x": "y"} })
	odd("extended path", "extension", func(h *tar.Header) { h.Format, h.Name = tar.FormatPAX, strings.Repeat("a", 300) })
	odd("GNU format", "extension", func(h *tar.Header) { h.Format = tar.FormatGNU })
	odd("another name", "where the file model.so", func(h *tar.Header) { h.Name = "other.so" })

	symlinkThenFile := func() []byte {
		link := item{tar.Header{Format: tar.FormatUSTAR, Typeflag: tar.TypeSymlink, Name: "variants", Linkname: "../outside", Mode: 0o777}, nil}
		return tarOf(t, manifest, link, plain("variants/secret", payload))
	}
	add("symbolic link, then a file through it", "symbolic link", symlinkThenFile())
	raw := func(name, says string, blocks ...[]byte) {
		end := make([]byte, 1024)
		add(name, says, bytes.Join(append(append([][]byte{sound[:1024]}, blocks...), end), nil))
	}
	content := append(bytes.Clone(payload), make([]byte, 507)...)
	raw("old sparse file", "", rawHeader("model.so", 'S', "00000000005", func(b []byte) { copy(b[257:], "ustar  \x00") }), content)
	raw("negative size", "", rawHeader("model.so", '0', "", func(b []byte) { copy(b[124:136], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00") }), content)
	raw("size of 8 EiB", "", rawHeader("model.so", '0', "", func(b []byte) { copy(b[124:136], "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff") }))
	raw("size of letters", "", rawHeader("model.so", '0', "xyz", nil), content)
	raw("wrong check sum", "", func() []byte { b := rawHeader("model.so", '0', "00000000005", nil); b[0] = 'n'; return b }(), content)
	raw("no magic", "", rawHeader("model.so", '0', "00000000005", func(b []byte) { clear(b[257:265]) }), content)
	raw("global extended header", "", rawHeader("x", 'g', "00000000000", nil), rawHeader("model.so", '0', "00000000005", nil), content)
	raw("long name without one", "", rawHeader("././@LongLink", 'L', "00000000005", nil), content)
	raw("long name of a gigabyte", "", rawHeader("././@LongLink", 'L', "07777777777", nil), content)
	raw("volume label", "", rawHeader("model.so", 'V', "00000000000", nil))
	raw("continued from another volume", "", rawHeader("model.so", 'M', "00000000005", nil), content)
	raw("unknown type", "", rawHeader("model.so", 'Z', "00000000005", nil), content)
	raw("larger than it is", "SHA-256", rawHeader("model.so", '0', "00000000005", nil))
	raw("larger than the manifest says", "the manifest says 5", rawHeader("model.so", '0', "00000000006", nil), content)
	raw("smaller than the manifest says", "the manifest says 5", rawHeader("model.so", '0', "00000000004", nil), content)
	raw("other content", "SHA-256", rawHeader("model.so", '0', "00000000005", nil), make([]byte, 512))

	twice := manifestOf(good, good)
	add("twice in the manifest", "twice", tarOf(t, plain(ManifestName, twice), plain("model.so", payload), plain("model.so", payload)))
	add("twice in the archive", "of which the manifest says nothing", tarOf(t, manifest, plain("model.so", payload), plain("model.so", payload)))
	add("a case twin", "in another case", tarOf(t, plain(ManifestName, manifestOf(fileOf("MODEL.so", payload), good)), plain("MODEL.so", payload), plain("model.so", payload)))
	add("a file that is a folder too", "a file and a folder", tarOf(t, plain(ManifestName, manifestOf(fileOf("variants", payload), fileOf("variants/x", payload))), plain("variants", payload)))
	add("a file more", "of which the manifest says nothing", tarOf(t, manifest, plain("model.so", payload), plain("more.so", payload)))
	add("a file less", "model.so is missing", tarOf(t, manifest))
	add("no manifest", "its first file", tarOf(t, plain("model.so", payload)))
	add("the manifest last", "its first file", tarOf(t, plain("model.so", payload), manifest))
	add("two manifests", "where the file", tarOf(t, manifest, manifest, plain("model.so", payload)))
	add("the manifest in the manifest", "twice", tarOf(t, plain(ManifestName, manifestOf(fileOf(ManifestName, payload))), plain(ManifestName, payload)))
	add("two signatures", "where the file", tarOf(t, manifest, plain(SignatureName, payload), plain(SignatureName, payload), plain("model.so", payload)))
	add("the signature last", "of which the manifest says nothing", tarOf(t, manifest, plain("model.so", payload), plain(SignatureName, payload)))
	add("in another order", "not in the order", tarOf(t, plain(ManifestName, manifestOf(fileOf("b", payload), fileOf("a", payload)))))
	add("empty", "it is empty", make([]byte, 1024))
	add("nothing at all", "", nil)
	add("something after the end", "something follows", append(bytes.Clone(sound), "more"...))
	add("another archive after the end", "something follows", append(bytes.Clone(sound), sound...))
	add("padding after the end", "something follows", append(bytes.Clone(sound), make([]byte, 8192)...))
	add("a manifest of 2 MiB", "more than", tarOf(t, plain(ManifestName, bytes.Repeat([]byte(" "), 2<<20))))
	add("a signature of 5 MiB", "more than", tarOf(t, manifest, plain(SignatureName, bytes.Repeat([]byte(" "), 5<<20))))
	add("a manifest that nests", "too deep", tarOf(t, plain(ManifestName, bytes.Repeat([]byte("["), 1<<19))))
	add("5,000 files", "5000 files", tarOf(t, plain(ManifestName, manifestOf(manyFiles(5000)...))))
	huge := File{"model.so", MaxFileBytes - 1, good.SHA256}
	add("a sum of sizes that overflows", "more than", tarOf(t, plain(ManifestName, manifestOf(File{"a", MaxFileBytes - 1, good.SHA256}, File{"b", MaxFileBytes - 1, good.SHA256}, File{"c", MaxFileBytes - 1, good.SHA256}))))
	zeros := make([]byte, 100<<20)
	add("1000:1 in one file", "times its size", tarOf(t, plain(ManifestName, manifestOf(File{"model.so", int64(len(zeros)), good.SHA256})), plain("model.so", zeros)))
	raw("8 GiB of which nothing is there", "", rawHeader("model.so", '0', fmt.Sprintf("%011o", huge.Size), nil))

	whole := framed(compress(t, sound))
	bytesOf := func(name, says string, data []byte) { list = append(list, hostileArchive{name, data, says}) }
	bytesOf("bytes after the end", "something was added", append(bytes.Clone(whole), 0))
	bytesOf("bytes after the end that the frame knows of", "something follows", framed(append(bytes.Clone(whole), "more"...)))
	bytesOf("a second member", "something follows", framed(append(bytes.Clone(whole), whole...)))
	bytesOf("another check sum", "check sum", func() []byte { d := bytes.Clone(whole); d[24] ^= 1; return d }())
	bytesOf("with a file name", "does not begin", func() []byte { d := bytes.Clone(whole); d[3] |= 8; return d }())
	bytesOf("with a time", "does not begin", func() []byte { d := bytes.Clone(whole); d[4] = 1; return d }())
	bytesOf("a zip file", "does not begin", []byte("PK\x03\x04 and so on, and on, and on"))
	bytesOf("no byte", "does not begin", nil)
	for n := range 64 {
		cut := whole[:len(whole)*n/64]
		bytesOf(fmt.Sprintf("cut at %d/64", n), "", bytes.Clone(cut))
		if len(cut) > frameBytes {
			bytesOf(fmt.Sprintf("cut at %d/64 and framed", n), "", framed(bytes.Clone(cut)))
		}
	}
	return list
}

func manyFiles(n int) []File {
	list := make([]File, n)
	for i := range list {
		list[i] = File{Path: fmt.Sprintf("f%06d", i), SHA256: strings.Repeat("0", 64)}
	}
	return list
}

// arena is a folder to unpack into, beside things that nobody may touch.
type arena struct{ outside, inside string }

func newArena(t testing.TB) arena {
	t.Helper()
	top := t.TempDir()
	a := arena{filepath.Join(top, "outside"), filepath.Join(top, "inside")}
	for _, name := range []string{"secret", "escaped", "passwd", "deep/compiled.so"} {
		write(t, filepath.Join(a.outside, name), []byte("nobody's business"))
	}
	return a
}

// guarded unpacks into a new folder and makes sure that nothing around it has changed.
func (a arena) guarded(t testing.TB, name string, unpack func(*os.Root) error) error {
	t.Helper()
	before := snapshot(t, a.outside)
	if err := os.Mkdir(a.inside, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(a.inside)
	if err != nil {
		t.Fatal(err)
	}
	refused := unpack(root)
	root.Close()
	if err := errors.Join(unseal(a.inside), os.RemoveAll(a.inside)); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(a.outside))
	if err != nil || len(entries) != 1 || snapshot(t, a.outside) != before {
		t.Fatalf("%s: something outside was changed: %v, %v", name, entries, err)
	}
	return refused
}

// TestHostileArchives: each is refused as what it is, and neither reads nor writes anything outside of the folder it is
// unpacked to.
func TestHostileArchives(t *testing.T) {
	a := newArena(t)
	list := hostileArchives(t)
	if len(list) < 60 {
		t.Fatalf("there are %d archives, want at least 60", len(list))
	}
	for _, h := range list {
		err := a.guarded(t, h.name, func(root *os.Root) error { return unpack(h.data, root) })
		switch {
		case !errors.Is(err, ErrFormat) && !errors.Is(err, ErrForeign):
			t.Errorf("%s: %v, want a refusal", h.name, err)
		case !strings.Contains(err.Error(), h.says):
			t.Errorf("%s: %v, want one that says %q", h.name, err, h.says)
		case len(err.Error()) > 700 || strings.ContainsAny(err.Error(), "\n\x1b"):
			t.Errorf("%s: the error is not one line of text: %.500q", h.name, err)
		}
	}
	t.Logf("%d archives refused", len(list))
}

// TestHostileOldArchives does the same to archives that are trusted by their digest, which says nothing of what is in them.
func TestHostileOldArchives(t *testing.T) {
	a := newArena(t)
	count := 0
	refused := func(name string, data []byte) {
		count++
		err := a.guarded(t, name, func(root *os.Root) error {
			_, err := unpackOld(data, root)
			return err
		})
		if !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	for _, path := range hostilePaths() {
		if path == "./a" || path == "" || strings.HasSuffix(path, "/") {
			continue // as tar itself writes files, or what is a folder to archive/tar
		}
		i := plain(path, payload)
		i.header.Format = tar.FormatGNU
		refused(fmt.Sprintf("%.40q", path), gzipped(t, tarOf(t, i)))
	}
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeLink, Name: "a", Linkname: "../outside/secret"},
		{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "../outside"},
		{Typeflag: tar.TypeChar, Name: "a"},
		{Typeflag: tar.TypeBlock, Name: "a"},
		{Typeflag: tar.TypeFifo, Name: "a"},
		{Typeflag: tar.TypeDir, Name: "../escaped/"},
		{Typeflag: tar.TypeReg, Name: "a", Mode: 0o4755},
		{Typeflag: tar.TypeReg, Name: "a", Mode: 0o2755},
	} {
		refused(fmt.Sprintf("type %c of mode %o", h.Typeflag, h.Mode), gzipped(t, tarOf(t, item{h, nil})))
	}
	dir := item{tar.Header{Typeflag: tar.TypeSymlink, Name: "deep", Linkname: "../outside/deep"}, nil}
	refused("a link, then a file through it", gzipped(t, tarOf(t, dir, plain("deep/compiled.so", payload))))
	refused("twice", gzipped(t, tarOf(t, plain("a", payload), plain("a", payload))))
	refused("case twins", gzipped(t, tarOf(t, plain("a", payload), plain("A", payload))))
	refused("a file and a folder", gzipped(t, tarOf(t, plain("a", payload), plain("a/b", payload))))
	refused("a folder and a file", gzipped(t, tarOf(t, plain("a/b", payload), plain("a", payload))))
	refused("no file", gzipped(t, tarOf(t)))
	refused("1000:1", gzipped(t, tarOf(t, plain("a", make([]byte, 100<<20)))))
	refused("not gzip", []byte("something else"))
	sound := gzipped(t, tarOf(t, plain("a", payload)))
	refused("cut", sound[:len(sound)-5])
	refused("sparse", gzipped(t, sparse(t)))
	refused("a million entries", millionEntries(t))
	if count < 60 {
		t.Errorf("there are %d archives, want at least 60", count)
	}
	if err := a.guarded(t, "another digest", func(root *os.Root) error {
		_, err := UnpackOld(context.Background(), inMemory(sound), digestPrefix+strings.Repeat("0", 64), root)
		return err
	}); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "was changed while it was read") {
		t.Errorf("with another digest: %v", err)
	}
}

// sparse is a file of 1 TiB with 5 bytes in it, as GNU tar writes one into an extended header.
func sparse(t testing.TB) []byte {
	t.Helper()
	sparseMap := "1\n1099511627771\n5\n"
	block := append([]byte(sparseMap), make([]byte, 512-len(sparseMap))...)
	records := "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n26 GNU.sparse.name=model.so\n39 GNU.sparse.realsize=1099511627776\n"
	pax := append([]byte(records), make([]byte, 512-len(records))...)
	return bytes.Join([][]byte{
		rawHeader("x", 'x', fmt.Sprintf("%011o", len(records)), nil), pax,
		rawHeader("model.so", '0', fmt.Sprintf("%011o", 512+5), nil), block, append(bytes.Clone(payload), make([]byte, 507)...), make([]byte, 1024),
	}, nil)
}

// millionEntries is a compressed archive of as many empty files.
func millionEntries(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	same := bytes.Repeat(rawHeader("same", '0', "00000000000", nil), 1000)
	for i := range 1000 {
		block := same // nobody comes as far
		if i < 5 {
			block = nil
			for j := range 1000 {
				block = append(block, rawHeader(fmt.Sprintf("f%03d%03d", i, j), '0', "00000000000", nil)...)
			}
		}
		if _, err := w.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestOldArchive: what tar makes of a folder, with folders, owners and times.
func TestOldArchive(t *testing.T) {
	folder := item{tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755, Uname: "ec2-user", ModTime: time.Unix(1600000000, 0)}, nil}
	file := item{tar.Header{Typeflag: tar.TypeReg, Name: "./compiled.so", Size: 5, Mode: 0o755, Uid: 1000, ModTime: time.Unix(1600000000, 7), Format: tar.FormatPAX}, payload}
	data := append(gzipped(t, tarOf(t, folder, file, plain(ManifestName, []byte("{}")))), gzipped(t, nil)...) // padded, as tar in blocks is
	dir := t.TempDir()
	files, err := unpackOld(data, openRoot(t, dir))
	if err != nil || len(files) != 2 || files[0] != fileOf("compiled.so", payload) {
		t.Fatalf("%+v, %v", files, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "compiled.so")); err != nil || !bytes.Equal(got, payload) {
		t.Errorf("it holds %q, %v", got, err)
	}
	if _, err := Open(context.Background(), inMemory(data)); !errors.Is(err, ErrForeign) {
		t.Errorf("as a package it is %v, want %v", err, ErrForeign)
	}
}

func unpackOld(data []byte, root *os.Root) ([]File, error) {
	sum := sha256.Sum256(data)
	return UnpackOld(context.Background(), inMemory(data), digestPrefix+hex.EncodeToString(sum[:]), root)
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestLargeFiles: those that are hashed beside being written are compared like the others.
func TestLargeFiles(t *testing.T) {
	large := bytes.Repeat([]byte("a model of some size "), manyBuffers*maxBuffer/20+1)
	manifest := plain(ManifestName, manifestOf(fileOf("model.so", large)))
	sound := framed(compress(t, tarOf(t, manifest, plain("model.so", large))))
	root := openRoot(t, t.TempDir())
	if err := unpack(sound, root); err != nil {
		t.Fatal(err)
	}
	if got, err := root.ReadFile("model.so"); err != nil || !bytes.Equal(got, large) {
		t.Errorf("it holds %d bytes, %v", len(got), err)
	}
	changed := bytes.Clone(large)
	changed[len(changed)-1] ^= 1
	for name, data := range map[string][]byte{
		"changed": framed(compress(t, tarOf(t, manifest, plain("model.so", changed)))),
		"cut":     framed(compress(t, tarOf(t, manifest, plain("model.so", large))[:len(large)/2])),
	} {
		if err := unpack(data, openRoot(t, t.TempDir())); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	full := openRoot(t, t.TempDir())
	if err := full.Mkdir("model.so", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unpack(sound, full); err == nil {
		t.Error("a file was written where a folder is")
	}
}
