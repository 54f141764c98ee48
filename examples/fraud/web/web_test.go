package web

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

// TestBuilt holds dist to its sources, as far as that goes without building it: nothing was changed on either side since
// `make web` wrote built.txt.
func TestBuilt(t *testing.T) {
	stamp, err := os.ReadFile("built.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(stamp)); lines.Scan(); {
		digest, name, _ := strings.Cut(lines.Text(), "  ")
		known[name] = digest
	}
	names := []string{"index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"}
	for _, dir := range []string{"src", "public", "dist"} {
		err := fs.WalkDir(os.DirFS("."), dir, func(name string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				names = append(names, name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if digest := sha256.Sum256(content); known[name] != hex.EncodeToString(digest[:]) {
			t.Errorf("%s is not what the pages were built with: run make web, and commit what it writes", name)
		}
		delete(known, name)
	}
	for name := range known {
		t.Errorf("%s was there when the pages were built: run make web, and commit what it writes", name)
	}
}

func get(t *testing.T, method, path string, header http.Header) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for key := range header {
		r.Header.Set(key, header.Get(key))
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w.Result()
}

// TestPages gets the page, and everything that it refers to.
func TestPages(t *testing.T) {
	seen := map[string]bool{}
	for todo := []string{"/"}; len(todo) > 0; todo = todo[1:] {
		path := todo[0]
		if seen[path] {
			continue
		}
		seen[path] = true
		r := get(t, http.MethodGet, path, nil)
		body := new(bytes.Buffer)
		if _, err := body.ReadFrom(r.Body); err != nil {
			t.Fatal(err)
		}
		if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") == "" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s is answered with %d, type %q", path, r.StatusCode, r.Header.Get("Content-Type"))
		}
		if again := get(t, http.MethodGet, path, http.Header{"If-None-Match": {r.Header.Get("ETag")}}); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s is sent again to who has it: %d", path, again.StatusCode)
		}
		for _, m := range regexp.MustCompile(`(?:src|href)="(/[^"]*)"|url\(([^)"]+)\)`).FindAllStringSubmatch(body.String(), -1) {
			if strings.HasSuffix(path, ".js") {
				break
			}
			todo = append(todo, m[1]+m[2])
		}
	}
	for _, want := range []string{"/assets/app.js", "/assets/index.css", "/icon.svg"} {
		if !seen[want] {
			t.Errorf("the page does not refer to %s; it refers to %v", want, seen)
		}
	}
	if !slices.ContainsFunc(mapKeys(seen), func(s string) bool { return strings.HasSuffix(s, ".woff2") }) {
		t.Error("the page refers to no font")
	}
}

func mapKeys(m map[string]bool) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

// TestNothingInline holds the page to the policy that it comes with.
func TestNothingInline(t *testing.T) {
	r := get(t, http.MethodGet, "/", nil)
	if p := r.Header.Get("Content-Security-Policy"); strings.Contains(p, "unsafe") || strings.Contains(p, "*") || strings.Contains(p, "http") {
		t.Errorf("the policy is %q", p)
	}
	page := new(bytes.Buffer)
	if _, err := page.ReadFrom(r.Body); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{`<script>`, `<style`, ` style="`, ` on[a-z]+="`, `https?://`} {
		if found := regexp.MustCompile(bad).FindString(page.String()); found != "" {
			t.Errorf("the page has %q", found)
		}
	}
}

func TestNoOtherPaths(t *testing.T) {
	for _, path := range []string{"/index.html", "/assets/", "/assets", "/dist/index.html", "/../web.go", "/api/session", "/built.txt"} {
		if r := get(t, http.MethodGet, path, nil); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s is answered with %d", path, r.StatusCode)
		}
	}
	if r := get(t, http.MethodPost, "/", nil); r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a POST is answered with %d", r.StatusCode)
	}
}
