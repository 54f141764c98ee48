package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/testkit/s3"
)

const capturePolicy = `
capture:
  format: {kinds: [endpoint], device: test}
  upload: {compression: none}
  residency:
    version: first
    destinations: [{bucket: BUCKET}, {directory: DIR/to}]
    models: [{model: fraud, samples: true, columns: [a, b], features: [{feature: b, action: truncate, digits: 0}, {feature: a, action: allow}], outputs: allow, ids: allow}]
  destination: `

// captureConfig writes a configuration whose destination is to.
func captureConfig(t *testing.T, dir, bucket, to string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "picketd.yaml")
	text := "state_dir: " + dir + "/state\n" + strings.NewReplacer("BUCKET", bucket, "DIR", dir).Replace(capturePolicy+to) + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCaptureTestAndAudit(t *testing.T) {
	server := s3.Start(t)
	bucket := server.NewBucket(t)
	for _, v := range server.Env() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	dir := t.TempDir()
	file := captureConfig(t, dir, bucket, "{bucket: "+bucket+"}")
	r := picket(t, "", "capture", "test", "--config", file, "--model", "fraud", "--show")
	if r.code != exitDone || !strings.Contains(r.stdout, "stored   s3://"+bucket+"/picket-test/fraud/AllTraffic/") || !strings.Contains(r.stdout, `"data":"1,1"`) {
		t.Errorf("%+v", r)
	}
	keys := server.Keys(t, bucket, "")
	if len(keys) != 1 {
		t.Fatalf("%q", keys)
	}
	file = captureConfig(t, dir, bucket, "{directory: "+dir+"/to}")
	r = picket(t, "", "capture", "test", "--config", file, "--model", "fraud", "--json")
	var report captureTest
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || len(report.Sent) != 1 || report.Version != "first" {
		t.Fatalf("%+v: %v", r, err)
	}
	if _, err := os.Stat(strings.TrimPrefix(report.Sent[0].Object, "file://")); err != nil {
		t.Error(err)
	}

	r = picket(t, "", "audit", "--config", file)
	if r.code != exitDone || !strings.Contains(r.stdout, "lines 1 to 5 in 1 files, unbroken: 2 objects sent, 2 stored") || !strings.Contains(r.stdout, keys[0]) {
		t.Errorf("%+v", r)
	}
	log := filepath.Join(dir, "state", "audit")
	r = picket(t, "", "audit", log, "--json")
	if lines := strings.Split(strings.TrimSpace(r.stdout), "\n"); r.code != exitDone || len(lines) != 6 || !strings.Contains(lines[5], `"last":5`) || !strings.Contains(lines[1], `"event":"sending"`) {
		t.Errorf("%+v", r)
	}
	name := filepath.Join(log, "audit-0000000000000001.jsonl")
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(strings.Replace(string(whole), "fraud", "froud", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r = picket(t, "", "audit", log, "--summary"); r.code != exitFailed || !strings.Contains(r.stderr, "was changed") {
		t.Errorf("a changed log: %+v", r)
	}
}

func TestCaptureTestRefusals(t *testing.T) {
	dir := t.TempDir()
	allowed := captureConfig(t, dir, "bank-capture", "{directory: "+dir+"/to}")
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no configuration":      {[]string{"capture", "test"}, exitUsage, "--config is missing"},
		"no destination":        {[]string{"capture", "test", "--config", captureConfig(t, dir, "bank-capture", "{prefix: a}")}, exitUsage, "names no capture.destination"},
		"another destination":   {[]string{"capture", "test", "--config", captureConfig(t, dir, "bank-capture", "{directory: "+dir+"/elsewhere}")}, exitPolicy, "not among the destinations"},
		"a model without rules": {[]string{"capture", "test", "--config", allowed, "--model", "churn"}, exitPolicy, "not allowed to leave"},
		"other columns":         {[]string{"capture", "test", "--config", allowed, "--model", "fraud", "--columns", "3"}, exitPolicy, "names 2 columns"},
		"too many columns":      {[]string{"capture", "test", "--config", allowed, "--columns", "-1"}, exitUsage, "outside"},
		"no log":                {[]string{"audit"}, exitUsage, "which log is missing"},
		"an empty log":          {[]string{"audit", dir}, exitFailed, "there is no audit log"},
	} {
		if r := picket(t, "", c.args...); r.code != c.code || !strings.Contains(r.stderr, c.says) {
			t.Errorf("%s: code %d, %q, want %d and %q", name, r.code, r.stderr, c.code, c.says)
		}
	}
}
