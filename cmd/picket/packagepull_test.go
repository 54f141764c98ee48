//go:build cgo

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/internal/testkit/s3"
)

// TestPackageFromBucketToAnswers: a signed package is pushed, pulled into the daemon's folder over a line that breaks, and
// loaded by name by a daemon that trusts the signer alone; and what nobody signed never gets there.
func TestPackageFromBucketToAnswers(t *testing.T) {
	server := s3.Start(t)
	proxy := s3.NewProxy(t, server)
	bucket := server.NewBucket(t)
	for _, pair := range server.Env() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	m, artifact := compileFixture(t, trained)
	dir := t.TempDir()
	built, packages := filepath.Join(dir, "built"), filepath.Join(dir, "packages")
	for _, d := range []string{built, packages} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	private, public := keyPair(t, dir, "signer")
	for _, v := range []string{"2", "3", "10"} {
		path := filepath.Join(built, "sums-"+v+".tar.gz")
		must(t, exitDone, "package", "build", artifact, "--name", "sums", "--version", v, "-o", built)
		if v != "10" {
			must(t, exitDone, "package", "sign", path, "--key", private)
		}
	}
	from := "s3://" + bucket + "/models"
	push := func(v string) pushed {
		t.Helper()
		var p pushed
		r := must(t, exitDone, "package", "push", filepath.Join(built, "sums-"+v+".tar.gz"), from, "--path-style", "--json")
		if err := json.Unmarshal([]byte(r.stdout), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := push("2"); p.Unchanged || p.URL != from+"/sums-2.tar.gz" || p.Name != "sums" || p.Version != "2" || !p.Signed || len(p.SHA256) != 64 || !strings.HasPrefix(p.Digest, "sha256:") {
		t.Errorf("%+v", p)
	}
	if p := push("2"); !p.Unchanged {
		t.Errorf("again: %+v", p)
	}
	push("3")
	// Another package of the same version.
	other := filepath.Join(dir, "other.tar.gz")
	must(t, exitDone, "package", "build", artifact, "--name", "sums", "--version", "3", "-o", other)
	if r := must(t, exitFailed, "package", "push", other, from, "--path-style"); !strings.Contains(r.stderr, "never overwrites one") || !strings.Contains(r.stderr, "another version") {
		t.Errorf("other bytes: %s", r.stderr)
	}

	conf := daemonConfig(t, dir, packages, public)
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, "packages_from: "+from+"\naws: {endpoint: \""+proxy.Endpoint+"\", region: "+s3.Region+", path_style: true}\n"...)
	if err := os.WriteFile(conf, text, 0o600); err != nil {
		t.Fatal(err)
	}
	pull := func(what string) pulled {
		t.Helper()
		var p pulled
		r := must(t, exitDone, "package", "pull", what, "--config", conf, "--json")
		if err := json.Unmarshal([]byte(r.stdout), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	size := int64(0)
	if info, err := os.Stat(filepath.Join(built, "sums-2.tar.gz")); err == nil {
		size = info.Size()
	}
	proxy.Cut(t, size/2)
	if p := pull("sums@2"); p.Unchanged || p.Transferred != size || p.Bytes != size || !p.Confirmed || p.Signer == nil || p.File != filepath.Join(packages, "sums-2.tar.gz") {
		t.Errorf("%+v of %d bytes", p, size)
	}
	proxy.Clear(t)
	if p := pull("sums@2"); !p.Unchanged || p.Transferred != 0 {
		t.Errorf("again: %+v", p)
	}

	sockets, _ := startDaemon(t, "--config", conf, "--state", filepath.Join(dir, "state"))
	must(t, exitDone, "--sockets", sockets, "load", "sums", "sums")
	if p := pull("sums"); p.Version != "3" || p.Unchanged { // the highest
		t.Errorf("the highest: %+v", p)
	}
	must(t, exitDone, "--sockets", sockets, "load", "three", "sums@3")
	rows := filepath.Join(dir, "rows.csv")
	values, want := testkit.Rows(m.Rows, m.Features), testkit.ReadF32(t, m.Prediction)
	if err := os.WriteFile(rows, []byte(rowsAs("csv", values, m.Features)), 0o600); err != nil {
		t.Fatal(err)
	}
	checkAnswers(t, must(t, exitDone, "--sockets", sockets, "predict", "three", "--input", rows).stdout, false, want)

	// A version that nobody signed is refused before it gets its name, and what serves goes on serving.
	push("10")
	if r := must(t, exitPolicy, "package", "pull", "sums", "--config", conf); !strings.Contains(r.stderr, "pulling sums: ") || !strings.Contains(r.stderr, "not signed") {
		t.Errorf("unsigned: %s", r.stderr)
	}
	if _, err := os.Lstat(filepath.Join(packages, "sums-10.tar.gz")); err == nil {
		t.Error("an unsigned package has its name")
	}
	// One under another's name.
	signed, err := os.ReadFile(filepath.Join(built, "sums-3.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	server.Put(t, bucket, "models/sums-11.tar.gz", signed)
	if r := must(t, exitFailed, "package", "pull", "sums@11", "--config", conf); !strings.Contains(r.stderr, "its name must say so") {
		t.Errorf("another's name: %s", r.stderr)
	}
	if local, err := os.ReadFile(filepath.Join(packages, "sums-3.tar.gz")); err != nil || !bytes.Equal(local, signed) {
		t.Errorf("what was pulled has changed: %v", err)
	}
	checkAnswers(t, must(t, exitDone, "--sockets", sockets, "predict", "three", "--input", rows).stdout, false, want)
}

func TestPackagePullFailures(t *testing.T) {
	server := s3.Start(t)
	bucket := server.NewBucket(t)
	for _, pair := range server.Env() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	dir := t.TempDir()
	for _, test := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"pull", "fraud"}, exitUsage, []string{"--from s3://BUCKET/PREFIX"}},
		{[]string{"pull", "a b"}, exitUsage, []string{`"a b" is neither`}},
		{[]string{"pull", "fraud@1-2", "--from", "s3://" + bucket}, exitUsage, []string{"1-2"}},
		{[]string{"pull", "https://x/y"}, exitUsage, []string{"write s3://bucket/prefix"}},
		{[]string{"pull", "s3://" + bucket + "/models/"}, exitUsage, []string{"it names no object"}},
		{[]string{"pull", "s3://" + bucket + "/x", "--bandwidth", "fast"}, exitUsage, []string{`"fast" is no rate`}},
		{[]string{"pull", "s3://" + bucket + "/x", "--region", "The West"}, exitUsage, []string{"region", "is no region"}},
		{[]string{"pull", "s3://" + bucket + "/x", "--config", filepath.Join(dir, "none.yaml")}, exitUsage, []string{"none.yaml"}},
		{[]string{"pull", "fraud", "--from", "s3://" + bucket + "/models"}, exitFailed, []string{"there is no version of it in s3://" + bucket + "/models"}},
		{[]string{"pull", "s3://" + bucket + "/fraud-3.tar.gz"}, exitFailed, []string{"pulling s3://" + bucket + "/fraud-3.tar.gz: there is no such object"}},
		{[]string{"pull", "s3://" + bucket + "/fraud-3.tar.gz", "--to", filepath.Join(dir, "none")}, exitFailed, []string{"opening the folder"}},
		{[]string{"pull", "s3://" + bucket + "/x", "--patience", "1ns", "--endpoint-url", "http://127.0.0.1:1"}, exitFailed, []string{"is refused", "given up after 1ns"}},
	} {
		args := append([]string{"package"}, test.args...)
		if !slices.Contains(args, "--to") {
			args = append(args, "--to", dir)
		}
		fails(t, picket(t, "", args...), test.code, test.want...)
	}
	fails(t, picket(t, "", "package", "push", filepath.Join(dir, "none.tar.gz"), "s3://"+bucket), exitFailed, "pushing ", "none.tar.gz")
	junk := filepath.Join(dir, "junk-1.tar.gz")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, picket(t, "", "package", "push", junk, "s3://"+bucket), exitFailed, "pushing "+junk)
	fails(t, picket(t, "", "package", "push", junk, "bucket"), exitUsage, "write s3://bucket/prefix")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	fails(t, picket(t, "", "package", "pull", "s3://"+bucket+"/fraud-3.tar.gz", "--path-style"), exitPolicy, "the secret key does not belong to the access key")
}
