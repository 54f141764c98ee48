package packaging

import (
	"archive/tar"
	"bytes"
	stdgzip "compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The bytes of the package of twoVariants and its digest. They change when the format does, or when another compressor or
// another order would give other bytes to people who count on the same; never by themselves.
const (
	goldenArchive = "4de4dac773cb658c1c771decb9024519a67a997b6abb76cc3cd9b1c059ffe9aa"
	goldenDigest  = "sha256:92873cb03b07c7a9c81f18399920a5c738a8e58d30d90a95f70c555349b3c379"
)

func TestBuildIsReproducible(t *testing.T) {
	for range 3 {
		o := twoVariants(t)
		when := o.Variants[0].Dir + "/compiled.so"
		if err := os.Chmod(when, 0o755); err != nil {
			t.Fatal(err)
		}
		data, b := built(t, o)
		sum := sha256.Sum256(data)
		if got := hex.EncodeToString(sum[:]); got != goldenArchive {
			t.Errorf("the archive is %s, it was %s when this was written", got, goldenArchive)
		}
		if b.Digest != goldenDigest || b.Bytes != int64(len(data)) {
			t.Errorf("the digest is %s of %d bytes, want %s of %d", b.Digest, b.Bytes, goldenDigest, len(data))
		}
	}
}

// TestOthersReadIt: the standard library's gzip and tar, which know nothing of packages.
func TestOthersReadIt(t *testing.T) {
	data, b := built(t, twoVariants(t))
	zip, err := stdgzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if zip.Name != "" || !zip.ModTime.IsZero() || zip.OS != 255 {
		t.Errorf("the gzip header is %+v", zip.Header)
	}
	r := tar.NewReader(zip)
	var names []string
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != ManifestName {
			continue
		}
		// As the readers of the old service's manifests do.
		var m struct {
			Metadata struct {
				Name    string `json:"model_name"`
				Version string `json:"model_version"`
			} `json:"metadata"`
		}
		if err := json.Unmarshal(content, &m); err != nil || m.Metadata.Name != "fraud" || m.Metadata.Version != "3.1" {
			t.Errorf("the manifest says %+v, %v", m, err)
		}
	}
	want := []string{ManifestName, "compiled.meta", "compiled.so", WarmupName, "source_model.txt", "variants/x86-64-v4/compiled.so", "variants/x86-64-v4/source_model.txt"}
	if !slices.Equal(names, want) {
		t.Errorf("it holds %q, want %q", names, want)
	}
	if v := b.Manifest.Variants; v[0].Name != "x86-64-v4" || v[1].Path != "." {
		t.Errorf("the variants are %+v, want the one that asks for more first", v)
	}
	if s := b.Manifest.Source; s == nil || s.File != "source_model.txt" {
		t.Errorf("the source model is %+v", s)
	}
}

func TestUnpack(t *testing.T) {
	data, b := built(t, twoVariants(t))
	dir := t.TempDir()
	root := openRoot(t, dir)
	if err := unpack(data, root); err != nil {
		t.Fatal(err)
	}
	for _, f := range b.Manifest.Files {
		if err := CheckFile(context.Background(), root, f); err != nil {
			t.Errorf("%s: %v", f.Path, err)
		}
		info, err := os.Stat(filepath.Join(dir, f.Path))
		if err != nil || info.Mode() != 0o444 {
			t.Errorf("%s has the mode %v, %v", f.Path, info.Mode(), err)
		}
	}
	for _, folder := range []string{".", "variants", "variants/x86-64-v4"} {
		if info, err := os.Stat(filepath.Join(dir, folder)); err != nil || info.Mode().Perm() != 0o555 {
			t.Errorf("%s has the mode %v, %v", folder, info.Mode(), err)
		}
	}
	manifest, err := root.ReadFile(ManifestName)
	if err != nil || DigestOf(manifest) != b.Digest {
		t.Errorf("the manifest that was unpacked has the digest %s, %v", DigestOf(manifest), err)
	}
	// Unpacked, it is still a package.
	a, err := OpenFolder(root)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Unpack(context.Background(), openRoot(t, t.TempDir())); err != nil || a.Digest() != b.Digest {
		t.Errorf("as a folder it is %s, %v", a.Digest(), err)
	}
}

func TestFoldersThatAreNoPackage(t *testing.T) {
	data, _ := built(t, twoVariants(t))
	for name, c := range map[string]struct {
		change func(dir string) error
		says   string
	}{
		"a file more":   {func(d string) error { return os.WriteFile(d+"/more", nil, 0o644) }, `file "more" of which`},
		"a deep one":    {func(d string) error { return os.WriteFile(d+"/variants/x86-64-v4/more", nil, 0o644) }, "of which"},
		"a file less":   {func(d string) error { return os.Remove(d + "/compiled.so") }, "compiled.so is missing"},
		"no manifest":   {func(d string) error { return os.Remove(d + "/" + ManifestName) }, "is missing"},
		"another size":  {func(d string) error { return os.WriteFile(d+"/compiled.so", nil, 0o644) }, "has 0 bytes"},
		"other content": {func(d string) error { return os.WriteFile(d+"/compiled.so", []byte("code for ALL"), 0o644) }, "SHA-256 differs"},
		"a link inside": {func(d string) error {
			return errors.Join(os.Remove(d+"/compiled.so"), os.Symlink("source_model.txt", d+"/compiled.so"))
		}, "no plain file"},
		"swapped": {func(d string) error { return swapFiles(d+"/compiled.so", d+"/variants/x86-64-v4/compiled.so") }, "SHA-256 differs"},
		"a folder there": {func(d string) error {
			return errors.Join(os.Remove(d+"/compiled.so"), os.Mkdir(d+"/compiled.so", 0o755))
		}, "no plain file"},
	} {
		dir := t.TempDir()
		if err := unpack(data, openRoot(t, dir)); err != nil {
			t.Fatal(err)
		}
		if err := unseal(dir); err != nil {
			t.Fatal(err)
		}
		if err := c.change(dir); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a, err := OpenFolder(openRoot(t, dir))
		if err == nil {
			err = a.Unpack(context.Background(), nil)
			a.Close()
		}
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want one that says %q", name, err, c.says)
		}
	}
}

// unseal makes an unpacked folder one that can be changed.
func unseal(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		mode := os.FileMode(0o644)
		if err == nil && d.IsDir() {
			mode = 0o755
		}
		return errors.Join(err, os.Chmod(path, mode))
	})
}

func swapFiles(a, b string) error {
	return errors.Join(os.Rename(a, a+".x"), os.Rename(b, a), os.Rename(a+".x", b))
}

func TestAttach(t *testing.T) {
	o := twoVariants(t)
	unsigned, b := built(t, o)
	bundle := []byte(`{"a":"signature"}`)
	open := func() *os.File {
		f, err := os.Open(o.Out)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	ctx := context.Background()
	if err := Attach(ctx, open(), o.Out, false, bundle); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a file was replaced: %v", err)
	}
	for range 2 { // the second replaces the first
		if err := Attach(ctx, open(), o.Out, true, bundle); err != nil {
			t.Fatal(err)
		}
		a, err := Open(ctx, open())
		if err != nil {
			t.Fatal(err)
		}
		if string(a.Bundle) != string(bundle) || a.Digest() != b.Digest {
			t.Errorf("the signature is %q, the digest %s, was %s", a.Bundle, a.Digest(), b.Digest)
		}
		if err := a.Unpack(ctx, nil); err != nil {
			t.Error(err)
		}
		a.Close()
	}
	// A signature taken away again leaves what was built.
	if err := Attach(ctx, open(), o.Out, true, nil); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(o.Out); err != nil || !bytes.Equal(data, unsigned) {
		t.Errorf("without the signature it is not what it was: %v", err)
	}
	// What is damaged is not signed, and stays as it is.
	damaged := bytes.Clone(unsigned)
	damaged[len(damaged)-20] ^= 1
	if err := os.WriteFile(o.Out, damaged, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Attach(ctx, open(), o.Out, true, bundle); !errors.Is(err, ErrFormat) {
		t.Errorf("a damaged package was signed: %v", err)
	}
	entries, err := os.ReadDir(filepath.Dir(o.Out))
	if err != nil || len(entries) != 3 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, o *BuildOptions)
		says   string
	}{
		"a name":           {func(_ *testing.T, o *BuildOptions) { o.Name = "-a" }, "not the name"},
		"a version":        {func(_ *testing.T, o *BuildOptions) { o.Version = "1-2" }, "not the version"},
		"no variants":      {func(_ *testing.T, o *BuildOptions) { o.Variants = nil }, "0 variants"},
		"twice one name":   {func(_ *testing.T, o *BuildOptions) { o.Variants[1].Name = "X86-64" }, "there twice"},
		"no folder":        {func(_ *testing.T, o *BuildOptions) { o.Variants[0].Dir += "/nothing" }, "no such file"},
		"a link":           {func(t *testing.T, o *BuildOptions) { link(t, "/etc/passwd", o.Variants[0].Dir+"/model") }, "no plain file"},
		"a folder":         {func(t *testing.T, o *BuildOptions) { write(t, o.Variants[0].Dir+"/sub/file", nil) }, "no plain file"},
		"a hidden file":    {func(t *testing.T, o *BuildOptions) { write(t, o.Variants[0].Dir+"/.git", nil) }, "begins with a dot"},
		"a strange name":   {func(t *testing.T, o *BuildOptions) { write(t, o.Variants[0].Dir+"/a b", nil) }, "other characters"},
		"twins":            {func(t *testing.T, o *BuildOptions) { write(t, o.Variants[0].Dir+"/Compiled.so", nil) }, "there twice"},
		"too few answers":  {func(_ *testing.T, o *BuildOptions) { o.Warmup = o.Warmup[1:] }, "do not"},
		"too many rows":    {func(_ *testing.T, o *BuildOptions) { o.WarmupRows = 5000 }, "5000 warm-up rows"},
		"no signature":     {func(_ *testing.T, o *BuildOptions) { o.Signature = nil }, "no signature that says"},
		"a file that is":   {func(t *testing.T, o *BuildOptions) { write(t, o.Out, nil) }, "is there already"},
		"next to nothing":  {func(t *testing.T, o *BuildOptions) { write(t, o.Variants[0].Dir+"/zeros", make([]byte, 65<<20)) }, "no host would unpack"},
		"a strange level":  {func(_ *testing.T, o *BuildOptions) { o.Variants[0].Requires.Level = "V 4" }, "is no feature"},
		"a strange dtype":  {func(_ *testing.T, o *BuildOptions) { o.Signature.Inputs[0].DType = "BYTES" }, "has the type"},
		"a strange number": {func(_ *testing.T, o *BuildOptions) { o.Variants[0].Requires.Glibc = "new" }, "no version"},
	} {
		o := twoVariants(t)
		c.change(t, &o)
		before, _ := os.ReadFile(o.Out)
		if _, err := Build(context.Background(), o); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want one that says %q", name, err, c.says)
		}
		if after, _ := os.ReadFile(o.Out); !bytes.Equal(before, after) {
			t.Errorf("%s: a file was written", name)
		}
		if left, _ := filepath.Glob(filepath.Dir(o.Out) + "/.*"); len(left) > 0 {
			t.Errorf("%s: %q stayed behind", name, left)
		}
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func TestBuildEndsWithItsContext(t *testing.T) {
	o := twoVariants(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Build(ctx, o); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	o = twoVariants(t)
	data, _ := built(t, o)
	if _, err := Open(ctx, inMemory(data)); !errors.Is(err, context.Canceled) {
		t.Errorf("opening after the context ended: %v", err)
	}
}

// TestBaseline: the two files about the training set lie at top level, belong to no variant, and survive another packing.
func TestBaseline(t *testing.T) {
	o := twoVariants(t)
	o.Baseline = &Baseline{Statistics: []byte("statistics"), Constraints: []byte("constraints")}
	data, b := built(t, o)
	if files := b.Manifest.Baseline(); len(files) != 2 || files[0].Path != ConstraintsName || files[1].Path != StatisticsName {
		t.Fatalf("the baseline is %v", files)
	}
	for _, v := range b.Manifest.Variants {
		for _, f := range b.Manifest.FilesOf(v) {
			if strings.Contains(f.Path, "picket_") {
				t.Errorf("%s belongs to the variant %s", f.Path, v.Name)
			}
		}
	}
	a, err := Open(t.Context(), inMemory(data))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	read, err := a.ReadFiles(t.Context(), 100, StatisticsName, ConstraintsName, "nowhere")
	if err != nil || len(read) != 2 || string(read[StatisticsName]) != "statistics" || string(read[ConstraintsName]) != "constraints" {
		t.Errorf("reading them gives %q and %v", read, err)
	}
	long, err := Open(t.Context(), inMemory(data))
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	if _, err := long.ReadFiles(t.Context(), 5, StatisticsName); err == nil {
		t.Error("a file of more than the limit was read")
	}

	// A folder that was packed with a baseline is packed again without it.
	write(t, filepath.Join(o.Variants[0].Dir, StatisticsName), []byte("old"))
	o.Baseline, o.Force = nil, true
	if _, b := built(t, o); len(b.Manifest.Baseline()) != 0 {
		t.Errorf("an earlier package's baseline is %v", b.Manifest.Baseline())
	}
	m := *b.Manifest
	m.Files = slices.DeleteFunc(slices.Clone(m.Files), func(f File) bool { return f.Path == ConstraintsName })
	if _, err := m.Encode(); err == nil || !strings.Contains(err.Error(), "a baseline is both") {
		t.Errorf("half a baseline: %v", err)
	}
}
