package store

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/packaging"
)

// place is a folder with a model root in it, and things outside that root.
type place struct{ top, root string }

func newPlace(t *testing.T) place {
	t.Helper()
	top := t.TempDir()
	p := place{top, filepath.Join(top, "models")}
	for _, dir := range []string{"models/fraud", "models/deep/er", "elsewhere"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"models/fraud/compiled.so", "models/file", "elsewhere/compiled.so"} {
		if err := os.WriteFile(filepath.Join(top, file), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"models/inside":    "fraud",
		"models/outside":   "../elsewhere",
		"models/absolute":  filepath.Join(top, "elsewhere"),
		"models/deep/back": "../../elsewhere",
		"models/circle":    "circle",
		"models/dangling":  "nothing",
	} {
		if err := os.Symlink(to, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(p.root, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOpenBelowARoot(t *testing.T) {
	p := newPlace(t)
	s, err := New(Options{Roots: []string{p.root}, Unsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		url  string
		want error // nil: it opens
		says string
	}{
		{filepath.Join(p.root, "fraud"), nil, ""},
		{p.root + "/./deep//../fraud/", nil, ""},
		{filepath.Join(p.root, "inside"), nil, ""},
		{filepath.Join(p.root, "nothing"), engine.ErrNotFound, "nothing is there"},
		{filepath.Join(p.root, "dangling"), engine.ErrNotFound, "nothing is there"},
		{"", engine.ErrNotFound, "url is empty"},
		{p.root + "/a\x00b", engine.ErrNotFound, "called that"},
		{p.root + "/" + strings.Repeat("a", 300), engine.ErrNotFound, "called that"},
		{filepath.Join(p.root, "file", "below"), engine.ErrNotFound, "called that"},
		{filepath.Join(p.root, "file"), engine.ErrArtifact, "it is a file"},
		{filepath.Join(p.root, "fraud", "compiled.so"), engine.ErrArtifact, "it is a file"},
		{filepath.Join(p.root, "pipe"), engine.ErrArtifact, "it is a file"},
		{filepath.Join(p.root, "outside"), engine.ErrTrust, "leads out"},
		{filepath.Join(p.root, "absolute"), engine.ErrTrust, "leads out"},
		{filepath.Join(p.root, "deep", "back"), engine.ErrTrust, "leads out"},
		{filepath.Join(p.top, "elsewhere"), engine.ErrTrust, "not below"},
		{p.root + "/../elsewhere", engine.ErrTrust, "not below"},
		{p.root + "-not", engine.ErrTrust, "not below"},
		{"/", engine.ErrTrust, "not below"},
		{"fraud", engine.ErrTrust, "not below"}, // the working directory is another
	} {
		a, err := s.Open(context.Background(), test.url)
		switch {
		case test.want == nil && err != nil:
			t.Errorf("%q: %v", test.url, err)
		case test.want != nil && err == nil:
			t.Errorf("%q was opened, want %v", test.url, test.want)
		case test.want != nil && (!errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says)):
			t.Errorf("%q: %v, want %v that says %q", test.url, err, test.want, test.says)
		}
		if (a == nil) == (err == nil) {
			t.Errorf("%q: artifact %v and error %v", test.url, a, err)
		}
		if a == nil {
			continue
		}
		if a.URL != test.url || !filepath.IsAbs(a.Dir) || filepath.Clean(a.Dir) != a.Dir {
			t.Errorf("%q: url %q, folder %q", test.url, a.URL, a.Dir)
		}
		if data, err := a.ReadFile("compiled.so", 10); err != nil || string(data) != "x" {
			t.Errorf("%q: compiled.so reads %q, %v", test.url, data, err)
		}
		if err := a.Close(); err != nil {
			t.Errorf("%q: %v", test.url, err)
		}
	}
}

// An error names what the client sent and nothing else of the file system.
func TestErrorsNameNoOtherPath(t *testing.T) {
	p := newPlace(t)
	t.Chdir(p.root)
	for _, roots := range [][]string{nil, {"."}, {"deep"}} {
		s, err := New(Options{Roots: roots, Unsigned: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, url := range []string{"nothing", "file", "outside/nothing", "circle", "../elsewhere/nothing", "file/x"} {
			_, err := s.Open(context.Background(), url)
			if err == nil {
				t.Errorf("roots %q: %q was opened", roots, url)
			} else if strings.Contains(err.Error(), p.top) {
				t.Errorf("roots %q: the error names a path that the client did not send: %v", roots, err)
			}
		}
	}
}

func TestOpenRelativeToTheWorkingDirectory(t *testing.T) {
	p := newPlace(t)
	t.Chdir(filepath.Join(p.root, "deep"))
	for _, roots := range [][]string{nil, {".."}} {
		s, err := New(Options{Roots: roots, Unsigned: true})
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.Open(context.Background(), "../fraud")
		if err != nil {
			t.Fatalf("roots %q: %v", roots, err)
		}
		if want, _ := filepath.EvalSymlinks(filepath.Join(p.root, "fraud")); a.Dir != want {
			t.Errorf("roots %q: the folder is %q, want %q", roots, a.Dir, want)
		}
		a.Close()
	}
}

func TestOpenAnywhereWithoutRoots(t *testing.T) {
	p := newPlace(t)
	s, err := New(Options{Unsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]error{
		filepath.Join(p.root, "outside"): nil,
		filepath.Join(p.root, "file"):    engine.ErrArtifact,
		filepath.Join(p.root, "pipe"):    engine.ErrArtifact,
		filepath.Join(p.root, "nothing"): engine.ErrNotFound,
		filepath.Join(p.root, "circle"):  engine.ErrNotFound,
	} {
		a, err := s.Open(context.Background(), url)
		if !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", url, err, want)
		}
		if err == nil {
			a.Close()
		}
	}
}

func TestFoldersThatTheOperatorNamed(t *testing.T) {
	p := newPlace(t)
	named := filepath.Join(p.top, "elsewhere")
	s, err := New(Options{Roots: []string{filepath.Join(p.root, "deep")}, Also: []string{named}, Unsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Open(context.Background(), named)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	for _, url := range []string{filepath.Join(named, "below"), p.top, filepath.Join(p.root, "outside")} {
		if _, err := s.Open(context.Background(), url); !errors.Is(err, engine.ErrTrust) {
			t.Errorf("%q: %v, want %v", url, err, engine.ErrTrust)
		}
	}
}

func TestUnsignedPackages(t *testing.T) {
	p := newPlace(t)
	manifest := `{"metadata": {"model_name": "cards", "model_version": "7.2"}, "files": []}`
	if err := os.WriteFile(filepath.Join(p.root, "fraud", packaging.ManifestName), []byte(manifest), 0o644); err != nil {
		t.Fatal(err)
	}
	url := filepath.Join(p.root, "fraud")
	var log bytes.Buffer
	strict, err := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := strict.Open(context.Background(), url); !errors.Is(err, engine.ErrTrust) || !strings.Contains(err.Error(), "--unsigned") {
		t.Errorf("without --unsigned: %v, want %v that names the flag", err, engine.ErrTrust)
	}
	if log.Len() != 0 {
		t.Errorf("a refusal was logged as an opening: %s", &log)
	}
	lenient, err := New(Options{Unsigned: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2; n++ {
		a, err := lenient.Open(context.Background(), url)
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
		if got := strings.Count(log.String(), "level=WARN"); got != n {
			t.Errorf("%d openings left %d warnings:\n%s", n, got, &log)
		}
	}
	for _, want := range []string{"not signed", url, "package=cards", "version=7.2"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the warning does not say %q:\n%s", want, &log)
		}
	}
}

func TestADamagedManifestIsNoReasonToRefuse(t *testing.T) {
	p := newPlace(t)
	dir := filepath.Join(p.root, "fraud")
	s, err := New(Options{Unsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"no JSON":       "{",
		"another type":  `{"metadata": {"model_name": 7}}`,
		"too long":      `{"metadata": {"model_name": "` + strings.Repeat("a", 300) + `"}}`,
		"unprintable":   `{"metadata": {"model_name": "a\u001b[31m"}}`,
		"larger than 1": strings.Repeat(" ", packaging.MaxManifestBytes+1),
	} {
		if err := os.WriteFile(filepath.Join(dir, packaging.ManifestName), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		a, err := s.Open(context.Background(), dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m, err := ReadManifest(a); !errors.Is(err, engine.ErrArtifact) || m != (Manifest{}) {
			t.Errorf("%s: read as %+v, %v", name, m, err)
		}
		a.Close()
	}
}

func TestCanceled(t *testing.T) {
	s, err := New(Options{Unsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Open(ctx, t.TempDir()); !errors.Is(err, engine.ErrCanceled) {
		t.Errorf("%v, want %v", err, engine.ErrCanceled)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"metadata": {"model_name": "cards", "model_version": "7.2"}}`))
	f.Add([]byte(`{"metadata": null}`))
	f.Add([]byte(`{"METADATA": {"model_name": "\ud800"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil && m != (Manifest{}) {
			t.Errorf("error %v and manifest %+v", err, m)
		}
		if len(m.Name) > maxNameBytes || strings.ContainsAny(m.Name+m.Version, "\x00\n\x1b") {
			t.Errorf("accepted %+v", m)
		}
	})
}

// A root that is a link inside another root leads where the operator allowed,
// whichever of the two comes first.
func TestRootInsideARoot(t *testing.T) {
	p := newPlace(t)
	inner := filepath.Join(p.root, "outside") // a link to elsewhere
	for _, roots := range [][]string{{p.root, inner}, {inner, p.root}} {
		s, err := New(Options{Roots: roots, Unsigned: true})
		if err != nil {
			t.Fatal(err)
		}
		for url, want := range map[string]error{
			inner:                             nil,
			filepath.Join(p.root, "fraud"):    nil,
			filepath.Join(p.root, "absolute"): engine.ErrTrust,
		} {
			a, err := s.Open(context.Background(), url)
			if !errors.Is(err, want) {
				t.Errorf("roots %q: opening %q: %v, want %v", roots, url, err, want)
			}
			if a != nil {
				a.Close()
			}
		}
	}
}
