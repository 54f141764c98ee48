package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	controlapi "github.com/picket-ml/picket/internal/api/control"
	"github.com/picket-ml/picket/internal/testkit"
)

// A reload takes other certificate files, and none where they cannot be used.
func TestReloadOfCertificates(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "picketd.yaml")
	write := func(name, more string) {
		t.Helper()
		text := fmt.Sprintf("sockets: {dir: %s}\ntcp: {listen: [\"127.0.0.1:0\"], certificate: %s.crt, key: %[2]s.key}\n%s", dir, filepath.Join(dir, name), more)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"one", "two"} {
		testkit.NewCertificate(t, name, nil).Write(t, filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
	}
	write("one", "")
	p := launch(t, filepath.Join(dir, "agent.sock"), nil, "--config", file)
	p.connect(t)
	_, ready, _ := strings.Cut(p.stderr.String(), "msg=ready")
	port := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(ready)
	check := func(want string) {
		t.Helper()
		c, err := tls.Dial("tcp", port, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // which certificate it is, is the question
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := c.ConnectionState().PeerCertificates[0].Subject.CommonName; got != want {
			t.Errorf("the certificate is %q, want %q", got, want)
		}
	}
	check("one")
	write("two", "")
	out, err := p.control.Reload(t.Context(), &controlapi.ReloadRequest{})
	if err != nil || strings.Join(out.GetChanged(), " ") != "tcp.certificate tcp.key" || len(out.GetNeedRestart()) != 0 {
		t.Errorf("the reload answers %v, %v", out, err)
	}
	check("two")
	write("three", "shutdown: {grace: 3s}\n")
	if _, err := p.control.Reload(t.Context(), &controlapi.ReloadRequest{}); err == nil || !strings.Contains(err.Error(), "three.crt") {
		t.Errorf("files that are not there: %v", err)
	}
	check("two")
	write("two", "shutdown: {grace: 3s}\n")
	if out, err := p.control.Reload(t.Context(), &controlapi.ReloadRequest{}); err != nil || strings.Join(out.GetChanged(), " ") != "shutdown.grace" {
		t.Errorf("the reload answers %v, %v: was the grace changed before?", out, err)
	}
	p.stop(t)
}
