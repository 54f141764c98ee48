package packaging

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestCompareVersions(t *testing.T) {
	// Each is lower than the next; those in one string are equal.
	order := []string{
		"", "a", "b", "b.1", "rc 1", "0", "1", "1 a", "1.0|1_0|1 0|1.00|01.0", "1.0 rc 1", "1.0.0", "1.0.1", "1.1", "1.9", "1.10", "2", "10", "2026", "20261126.1",
		"99999999999999999999", "100000000000000000000",
	}
	for i, low := range order {
		for j, high := range order {
			for _, a := range strings.Split(low, "|") {
				for _, b := range strings.Split(high, "|") {
					got, want := CompareVersions(a, b), i-j
					if got < 0 != (want < 0) || got > 0 != (want > 0) {
						t.Errorf("%q and %q compare as %d", a, b, got)
					}
				}
			}
		}
	}
}

func TestFileNames(t *testing.T) {
	for file, want := range map[string][2]string{
		"fraud-3.tar.gz": {"fraud", "3"}, "fraud-model-1.0 rc_2.tar.gz": {"fraud-model", "1.0 rc_2"},
		"fraud.tar.gz": {}, "-3.tar.gz": {}, "fraud-.tar.gz": {}, "fraud-3.tar": {}, "fraud--3.tar.gz": {}, ".package-1.tar.gz": {}, "fraud- 3.tar.gz": {},
	} {
		name, version, ok := SplitFileName(file)
		if !ok && want[0] == "" {
			continue
		}
		if !ok || name != want[0] || version != want[1] || FileName(name, version) != file {
			t.Errorf("%s: %q %q %v", file, name, version, ok)
		}
	}
}

func TestManifestRefuses(t *testing.T) {
	sum := strings.Repeat("a", 64)
	body := `"format":1,"variants":[{"name":"any","path":".","requires":{}}],"files":[{"path":"a","size":1,"sha256":"` + sum + `"}]`
	good := `{"metadata":{"model_name":"m","model_version":"1"},"picket":{` + body + `}}`
	if _, err := ParseManifest([]byte(good)); err != nil {
		t.Fatal(err)
	}
	// What the old service or others wrote beside is none of our business.
	if _, err := ParseManifest([]byte(strings.Replace(good, `"metadata":{`, `"more":[{}],"metadata":{"other":{"deep":1},`, 1))); err != nil {
		t.Error(err)
	}
	replaced := func(old, by string) string { return strings.Replace(good, old, by, 1) }
	for name, c := range map[string]struct{ text, says string }{
		"nothing":            {"", "ends in the middle"},
		"no object":          {"[]", "not an object"},
		"null":               {"null", "not an object"},
		"cut":                {good[:len(good)-1], "ends in the middle"},
		"two":                {good + good, "something follows"},
		"no picket":          {`{"metadata":{}}`, "has no key picket"},
		"no format":          {replaced(`"format":1,`, ""), "does not say which format"},
		"format null":        {replaced(`"format":1`, `"format":null`), "does not say which format"},
		"format 2":           {replaced(`"format":1`, `"format":2`), "it has format 2"},
		"an unknown key":     {replaced(`"format":1`, `"format":1,"requires_more":true`), "unknown field"},
		"unknown in variant": {replaced(`"requires":{}`, `"requires":{"tpu":1}`), "unknown field"},
		"a key twice":        {replaced(`"format":1`, `"format":2,"format":1`), "there twice"},
		"in another case":    {replaced(`"format":1`, `"format":1,"Format":1`), "there twice"},
		"in another script":  {replaced(`"files":`, `"fileſ":[],"files":`), "there twice"},
		"metadata twice":     {replaced(`"picket"`, `"metadata":{},"picket"`), "there twice"},
		"not UTF-8":          {replaced(`"any"`, "\"a\xff\""), "not UTF-8"},
		"no name":            {replaced(`"model_name":"m",`, ""), "not the name"},
		"a number as name":   {replaced(`"m"`, "7"), "metadata"},
		"no variants":        {replaced(`[{"name":"any","path":".","requires":{}}]`, "[]"), "0 variants"},
		"no top":             {replaced(`"path":"."`, `"path":"variants/any"`), "no files"},
		"a path elsewhere":   {replaced(`"path":"."`, `"path":"a"`), "lies in"},
		"a path out":         {replaced(`"path":"."`, `"path":".."`), "lies in"},
		"no files":           {replaced(`{"path":"a","size":1,"sha256":"`+sum+`"}`, ""), "0 files"},
		"a digest":           {replaced(sum, sum[1:]), "no SHA-256"},
		"an upper digest":    {replaced(sum, strings.ToUpper(sum)), "no SHA-256"},
		"a negative size":    {replaced(`"size":1`, `"size":-1`), "the size"},
		"a broken size":      {replaced(`"size":1`, `"size":1.5`), "cannot unmarshal"},
		"a stray file":       {replaced(sum+`"}`, sum+`"},{"path":"b/a","size":1,"sha256":"`+sum+`"}`), "belongs to no variant"},
		"stray warm-up rows": {replaced(sum+`"}`, sum+`"},{"path":"`+WarmupName+`","size":1,"sha256":"`+sum+`"}`), "says nothing of warm-up"},
		"too deep":           {`{"x":` + strings.Repeat("[", 17) + strings.Repeat("]", 17) + "}", "too deep"},
		"too large":          {strings.Repeat(" ", MaxManifestBytes) + good, "larger than"},
	} {
		m, err := ParseManifest([]byte(c.text))
		if m != nil || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v, %v, want an error that says %q", name, m, err, c.says)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	_, b := built(f, twoVariants(f))
	data, err := b.Manifest.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(manifestOf(fileOf("a", payload)))
	f.Add([]byte(`{"metadata":{"model_name":"m"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(data)
		if (m == nil) == (err == nil) {
			t.Fatalf("manifest %v and error %v", m, err)
		}
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrNewer) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		for _, file := range m.Files {
			if !filepath.IsLocal(file.Path) || strings.ContainsAny(file.Path, "\\:\x00") {
				t.Fatalf("accepted the path %q", file.Path)
			}
		}
		written, err := m.Encode()
		if err != nil {
			if len(data) > MaxManifestBytes/2 {
				return // with blanks it may be too large
			}
			t.Fatalf("it cannot be written again: %v", err)
		}
		again, err := ParseManifest(written)
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("it reads as %+v again, %v; was %+v", again, err, m)
		}
	})
}

// FuzzArchive: whatever the bytes, framed so that they get past the check sum, they are refused or are exactly the files
// that their manifest names, and nothing else is written.
func FuzzArchive(f *testing.F) {
	data, _ := built(f, twoVariants(f))
	f.Add(data[frameBytes:])
	f.Add(compress(f, tarOf(f, plain(ManifestName, manifestOf(fileOf("a", payload))), plain("a", payload)))[frameBytes:])
	for _, h := range hostileArchives(f)[:20] {
		f.Add(h.data[min(frameBytes, len(h.data)):])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		archive := framed(append(make([]byte, frameBytes), body...))
		a, err := Open(context.Background(), inMemory(archive))
		if (a == nil) == (err == nil) {
			t.Fatalf("archive %v and error %v", a, err)
		}
		if err != nil {
			return
		}
		defer a.Close()
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if err := a.Unpack(context.Background(), root); err != nil {
			return
		}
		for _, file := range a.Manifest.Files {
			if err := CheckFile(context.Background(), root, file); err != nil {
				t.Fatal(err)
			}
		}
		again, err := OpenFolder(root)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if err := again.Unpack(context.Background(), nil); err != nil {
			t.Fatalf("what was unpacked is not what it should be: %v", err)
		}
	})
}

// FuzzOldArchive: every file it writes is one that it tells of.
func FuzzOldArchive(f *testing.F) {
	f.Add(tarOf(f, plain("compiled.so", payload), plain(ManifestName, []byte("{}"))))
	f.Add(bytes.Join([][]byte{rawHeader("a", '5', "00000000000", nil), rawHeader("a/b", '0', "00000000000", nil)}, nil))
	f.Fuzz(func(t *testing.T, tarred []byte) {
		root, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		files, err := unpackOld(gzipped(t, tarred), root)
		if err != nil && files != nil {
			t.Fatalf("files %v and error %v", files, err)
		}
		for _, file := range files {
			if err := CheckFile(context.Background(), root, file); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestShortReads: an archive that gives a byte at a time is the same archive.
func TestShortReads(t *testing.T) {
	data, b := built(t, twoVariants(t))
	a, err := Open(context.Background(), slow{inMemory(data)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Unpack(context.Background(), nil); err != nil || a.Digest() != b.Digest {
		t.Errorf("%s, %v", a.Digest(), err)
	}
}

type slow struct{ memory }

func (s slow) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, io.ErrShortBuffer
	}
	return s.memory.Read(p[:1])
}
