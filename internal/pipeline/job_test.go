package pipeline

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// legalName is what SageMaker takes for a job, with a length of at most 63.
var legalName = regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$`)

func TestJobNames(t *testing.T) {
	digest, other := strings.Repeat("0123456789abcdef", 4), strings.Repeat("f", 64)
	seen := map[string]bool{}
	for _, pipeline := range []string{"a", "fraud", "a--b", strings.Repeat("x", 63), strings.Repeat("a-", 31) + "a"} {
		for _, version := range []string{"1", "1.0", "1 beta_2", strings.Repeat("9", 30), "...", "_"} {
			for _, try := range []int{1, 2, 99} {
				name := jobName(pipeline, version, digest, try)
				if len(name) > maxJobName || !legalName.MatchString(name) {
					t.Errorf("%q is not a name that SageMaker takes", name)
				}
				if again := jobName(pipeline, version, digest, try); again != name {
					t.Errorf("%q is called %q the next time", name, again)
				}
				if another := jobName(pipeline, version, other, try); another == name {
					t.Errorf("two requests have the name %q", name)
				}
				seen[name] = true
			}
		}
	}
	if got := jobName("fraud", "7", digest, 1); got != "picket-fraud-7-0123456789abcdef" {
		t.Errorf("the first try is called %q", got)
	}
	if got := jobName("fraud", "7", digest, 2); got != "picket-fraud-7-0123456789abcdef-2" {
		t.Errorf("the second try is called %q", got)
	}
}

func TestRequirements(t *testing.T) {
	for _, good := range []string{
		"", "# nothing\n\n", "xgboost==3.0.5\nnumpy==1.26.4 # why\n", "a[b,c]==1.0\n", "a==1 ; python_version < \"3.9\"\n",
		"a==1.0 \\\n    --hash=sha256:" + strings.Repeat("0", 64) + " \\\n    --hash=sha256:" + strings.Repeat("1", 64) + "\n",
	} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, requirementsFile), good)
		if text, err := readRequirements(dir); err != nil || string(text) != good {
			t.Errorf("%q: %q, %v", good, text, err)
		}
	}
	for _, bad := range []string{
		"xgboost\n", "xgboost>=3\n", "xgboost==3.*\n", "-r other.txt\n", "--index-url http://x\n", "git+https://x/y\n", "./local\n", "a==1 b==2\n", "https://x/a.whl\n", "a @ file:///x\n",
	} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, requirementsFile), bad)
		if _, err := readRequirements(dir); err == nil || !strings.Contains(err.Error(), "does not name one version of one package") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if text, err := readRequirements(t.TempDir()); text != nil || err != nil {
		t.Errorf("a folder without requirements: %q, %v", text, err)
	}
}

func TestFilesOfAFolder(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "b", "2.csv"), "2\n")
	writeFile(t, filepath.Join(dir, "a.csv"), "1\n")
	writeFile(t, filepath.Join(dir, ".hidden"), "x")
	writeFile(t, filepath.Join(dir, ".git", "x"), "x")
	files, err := listFiles(dir)
	if err != nil || len(files) != 2 || files[0].Path != "a.csv" || files[1].Path != "b/2.csv" {
		t.Fatalf("%+v, %v", files, err)
	}
	known := map[string]seen{}
	if err := digestFiles(t.Context(), files, known); err != nil {
		t.Fatal(err)
	}
	before := digestOf(files)
	for change, do := range map[string]func() error{
		"another content": func() error { return os.WriteFile(filepath.Join(dir, "a.csv"), []byte("3\n"), 0o644) },
		"another name":    func() error { return os.Rename(filepath.Join(dir, "a.csv"), filepath.Join(dir, "c.csv")) },
		"a file more":     func() error { return os.WriteFile(filepath.Join(dir, "d.csv"), nil, 0o644) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		files, err := listFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := digestFiles(t.Context(), files, known); err != nil {
			t.Fatal(err)
		}
		if after := digestOf(files); after == before {
			t.Errorf("%s: the digest stays", change)
		} else {
			before = after
		}
	}
	for name, prepare := range map[string]func(string) error{
		"a link":      func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "x.csv")) },
		"nothing":     func(string) error { return nil },
		"deep folder": func(dir string) error { return os.MkdirAll(filepath.Join(dir, strings.Repeat("a/", 20)), 0o755) },
	} {
		dir := t.TempDir()
		if err := prepare(dir); err != nil {
			t.Fatal(err)
		}
		if files, err := listFiles(dir); err == nil {
			t.Errorf("%s: %+v", name, files)
		}
	}
}
