//go:build cgo && linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/capture/residency"
)

// leaving writes the configuration of a daemon that captures all requests of the fixture, whose policy for it is rule.
func leaving(t *testing.T, dir, rule string) string {
	t.Helper()
	file := filepath.Join(dir, "picketd.yaml")
	text := fmt.Sprintf(`
sockets: {dir: %[1]s}
state_dir: %[1]s/state
models: [{name: fraud, path: %[2]s}]
model_defaults: {capture: {rate: 1}}
unsigned: true
capture:
  enabled: true
  segment_age: 100ms
  destination: {directory: %[1]s/to}
  upload: {compression: none}
  format: {device: test}
  residency:
    destinations: [{directory: %[1]s/to}]
    models: [%[3]s]
`, dir, fraudModel(t), rule)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// What is predicted is captured and leaves as the policy says, through a restart too, each record once, and is in the audit log.
func TestCapturedRequestsLeave(t *testing.T) {
	dir := t.TempDir()
	file := leaving(t, dir, "{model: fraud, samples: true, features: [{feature: '0', action: allow}], outputs: allow, ids: allow}")
	const each = 10
	lines := func() (n int) {
		err := filepath.WalkDir(filepath.Join(dir, "to"), func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() || strings.Contains(path, ".picket-partial") {
				return err
			}
			content, err := os.ReadFile(path)
			for line := range bytes.Lines(content) {
				if !bytes.Contains(line, []byte(`"endpointInput":{"observedContentType":"text/csv","mode":"INPUT"`)) || bytes.Contains(line, []byte(",,")) {
					t.Errorf("%s: %s", path, line)
				}
				n++
			}
			return err
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return n
	}
	for life := 1; life <= 2; life++ {
		p := launch(t, filepath.Join(dir, "agent.sock"), nil, "--config", file)
		p.connect(t)
		for range each {
			p.checkScores(t, "fraud", 1)
		}
		for deadline := time.Now().Add(time.Minute); lines() < each*life; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d records have left of %d:\n%s", lines(), each*life, &p.stderr)
			}
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "oip.sock"))
		}}}
		// The file is there a moment before it is counted.
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			response, err := client.Get("http://picket/metrics")
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			page := readFile(t, "../../docs/metrics.md")
			for _, name := range regexp.MustCompile(`(?m)^picket_upload_\w+`).FindAllString(string(text), -1) {
				if !strings.Contains(page, "`"+name+"`") {
					t.Fatalf("docs/metrics.md does not explain %s", name)
				}
			}
			if strings.Contains(string(text), fmt.Sprintf("picket_upload_records_total %d\n", each)) && strings.Contains(string(text), "picket_upload_state{state=") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the metrics do not say what left:\n%s", text)
			}
		}
		p.stop(t)
	}
	if n := lines(); n != 2*each {
		t.Errorf("%d records have left of %d", n, 2*each)
	}
	count := 0
	if _, err := residency.VerifyAudit(filepath.Join(dir, "state", "audit"), func(e residency.Entry) error {
		if e.Event == residency.Stored {
			count += e.Count
		}
		return nil
	}); err != nil || count != 2*each {
		t.Errorf("the audit log has %d records: %v", count, err)
	}
}

func TestPoliciesThatAreRefused(t *testing.T) {
	for rule, says := range map[string]string{
		"{model: fraud, samples: true, ids: allow, features: [{feature: amount, action: drop}]}": `capture.residency.models[0].features[0].feature: \"amount\" is unknown`,
		"{model: fraud, samples: true}":                                                          "capture.residency.key: values or ids of requests are hashed",
		"{model: fraud, samples: true, ids: allow, columns: [a, b]}":                             "columns names 2 for model fraud",
		"{model: fraud, samples: true, ids: allow, features: [{feature: '4000', action: drop}]}": "there is a rule for column 4000",
		"{model: fraud, samples: true, ids: allow, features: [{tensor: nothing, action: drop}]}": `has no tensor`,
		"{model: fraud, samples: true, ids: allow}, {model: fraud}":                              "fraud has a rule already",
	} {
		dir := t.TempDir()
		p := launch(t, filepath.Join(dir, "agent.sock"), nil, "--config", leaving(t, dir, rule))
		if code := p.wait(t); code != exitUsage || !strings.Contains(p.stderr.String(), strings.ReplaceAll(says, `\"`, `"`)) && !strings.Contains(p.stderr.String(), says) {
			t.Errorf("%s: ended with %d:\n%s", rule, code, &p.stderr)
		}
	}
	dir := t.TempDir()
	file := leaving(t, dir, "")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte("destinations: [{directory: "+dir+"/to}]"), []byte("destinations: []"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, filepath.Join(dir, "agent.sock"), nil, "--config", file)
	p.checkRefused(t, exitUsage, "is not among the destinations that it allows")
}
