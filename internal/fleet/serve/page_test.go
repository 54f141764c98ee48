package serve

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/edge"
)

// What a device says is shown as text, whatever it is; nothing is loaded from elsewhere, and nothing runs.
func TestPage(t *testing.T) {
	f := folderFleet(t, 2)
	one := f.served()
	two := f.publish("2")
	f.begin("r2", two, &one, []float64{100}, quick)
	evil := `<script>alert(1)</script><img src=x onerror=alert(1)>"'`
	for _, d := range f.devices {
		d.loader.Bad = map[string]error{"2": errors.New(evil)}
	}
	f.until("r2", fleet.Halted)
	s := httptest.NewServer(f.server.Page())
	defer s.Close()
	get := func(path string) (string, *http.Response) {
		t.Helper()
		r, err := s.Client().Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		data, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(data), r
	}
	text, answer := get("/")
	if policy := answer.Header.Get("Content-Security-Policy"); answer.StatusCode != http.StatusOK || !strings.HasPrefix(policy, "default-src 'none'") {
		t.Errorf("the page is answered %d, with the policy %q", answer.StatusCode, policy)
	}
	if strings.Contains(text, "<script") || strings.Contains(text, "<img") || !strings.Contains(text, "&lt;script&gt;") {
		t.Errorf("what a device said is not text:\n%s", text)
	}
	if found := regexp.MustCompile(`(?:src|href)="(?:https?:)?//`).FindString(text); found != "" {
		t.Errorf("the page loads something from elsewhere: %s", found)
	}
	// What those need who do not see it.
	for _, want := range []string{`<html lang="en">`, "<title>Fleet pos</title>", "<main>", "<h1>", "<caption>", `scope="col"`, `scope="row"`, "till-0", "halted"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %s", want)
		}
	}
	var r Report
	text, _ = get("/report.json")
	if err := json.Unmarshal([]byte(text), &r); err != nil || r.Fleet != "pos" || len(r.Devices) != 2 || r.Counts.Failed != 2 || r.Rollouts[0].Bad != 2 {
		t.Errorf("the report says %+v, %v", r, err)
	}
	if _, answer := get("/devices.db"); answer.StatusCode != http.StatusNotFound {
		t.Errorf("a path that is none is answered %d", answer.StatusCode)
	}
}

func TestUnknownDevices(t *testing.T) {
	f := folderFleet(t, 1)
	for _, d := range []edge.Device{{Name: "till-9", Fleet: "pos"}, {Name: "till-0", Fleet: "other"}} {
		said := &edge.Error{}
		if err := f.server.Heartbeat(t.Context(), &edge.Heartbeat{Device: d}); !errors.As(err, &said) || said.Type != "ResourceNotFoundException" {
			t.Errorf("%+v: %v", d, err)
		}
	}
	if len(f.server.records.each()) != 0 {
		t.Error("something is kept of a device that the fleet does not have")
	}
}

func TestCredentials(t *testing.T) {
	path := filepath.Join(t.TempDir(), "devices.txt")
	added, err := AddCredentials(path, []string{"till-1", "till-2", "till-1"})
	if err != nil || len(added) != 2 {
		t.Fatalf("added %v, %v", added, err)
	}
	if added, err := AddCredentials(path, []string{"till-2", "till-3"}); err != nil || len(added) != 1 {
		t.Fatalf("added %v, %v", added, err)
	}
	c, err := OpenCredentials(path, slog.New(slog.DiscardHandler))
	if err != nil || len(c.keys) != 3 {
		t.Fatalf("%d keys are there, %v", len(c.keys), err)
	}
	for key, one := range c.keys {
		if secret, known := c.Secret(key); !known || len(secret) < 32 || !c.May(key, one.device) || c.May(key, "till-9") {
			t.Errorf("the key of %s may not do what it should", one.device)
		}
	}
	if _, known := c.Secret("PKNONE"); known || c.May("PKNONE", "till-1") {
		t.Error("a key that is none is known")
	}
	for name, text := range map[string]string{"too few words": "PK secret-secret-secret\n", "a short secret": "PK secret *\n", "no device": "PK secret-secret-secret a/b\n", "twice": "PK secret-secret-secret *\nPK secret-secret-secret *\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenCredentials(path, nil); err == nil || strings.Contains(err.Error(), "secret-secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCredentials(path, nil); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others may read: %v", err)
	}
}
