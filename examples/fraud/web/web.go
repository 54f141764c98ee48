// Package web is the analyst's pages of the fraud application: static files, which run in the browser and ask the
// application by its HTTP API (API.md, one folder up).
//
// The files in dist are built from src with Node by `make web` and committed, so that building the Go programs takes no
// Node; built.txt says of which sources they are, and a test holds it to them.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"time"
)

//go:embed dist
var dist embed.FS

// policy is what the pages may do: run the scripts and show the files that come from where they come from, and ask there.
// Nothing inline, nothing from anywhere else, no text that becomes a part of the page as HTML.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// headers are on every answer.
var headers = map[string]string{
	"Content-Security-Policy":      policy,
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Embedder-Policy": "require-corp",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Permissions-Policy":           "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Cache-Control":                "no-cache", // browsers ask whether a file has changed
}

// file is one of the files, ready to be sent.
type file struct {
	content []byte
	kind    string
	tag     string
}

// handler serves the files. It does not change.
type handler struct{ files map[string]file }

// Handler serves the pages at / and their files, and answers 404 to every other path. It sets the headers that a bank
// expects; they are for the pages alone, and the API has its own.
func Handler() http.Handler {
	h := handler{files: map[string]file{}}
	err := fs.WalkDir(dist, "dist", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := dist.ReadFile(name)
		if err != nil {
			return err
		}
		digest := sha256.Sum256(content)
		f := file{content, mime.TypeByExtension(path.Ext(name)), `"` + base64.RawURLEncoding.EncodeToString(digest[:12]) + `"`}
		if path.Ext(name) == ".woff2" {
			f.kind = "font/woff2" // not every system's list has it
		}
		at := name[len("dist"):]
		if at == "/index.html" {
			at = "/"
		}
		h.files[at] = f
		return nil
	})
	if err != nil {
		panic("BUG: reading the embedded pages: " + err.Error())
	}
	return h
}

// ServeHTTP implements http.Handler.
func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for key, value := range headers {
		w.Header().Set(key, value)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the pages can only be read", http.StatusMethodNotAllowed)
		return
	}
	f, there := h.files[r.URL.Path]
	if !there {
		http.Error(w, "there is no such page", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", f.kind)
	w.Header().Set("ETag", f.tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
