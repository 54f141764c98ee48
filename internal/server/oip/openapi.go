package oip

import (
	_ "embed" // for the description below
	"net/http"
)

//go:embed openapi.yaml
var description []byte

// serveDescription answers with what describes the HTTP interface.
func serveDescription(w http.ResponseWriter, _ *http.Request) error {
	return writeBody(w, "application/yaml", description)
}
