package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/spool"
	"github.com/picket-ml/picket/tensor"
)

// spooled is a spool with so many records, one of which has a large tensor.
func spooled(t *testing.T, records int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "capture")
	s, err := spool.Open(spool.Options{Dir: dir, SegmentBytes: 1 << 10, BesideBytes: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	for n := range records {
		r := &capture.Record{
			Inference: fmt.Sprint("r", n), Time: time.Unix(1_700_000_000, 0), Model: "fraud", Kind: capture.Explicit,
			Inputs: []capture.Tensor{{Name: "data", DType: tensor.FP32, Shape: []int64{1}, Data: []byte{0, 0, 192, 127}}},
		}
		if n == 3 {
			r.Inputs[0].Data = make([]byte, 2000)
		}
		if err := s.Append(context.Background(), capture.Single(r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// picketSpool runs a command of the spool.
func picketSpool(args ...string) (code int, stdout, stderr string) {
	var out, complaint strings.Builder
	code = run(context.Background(), append([]string{"spool"}, args...), strings.NewReader(""), &out, &complaint)
	return code, out.String(), complaint.String()
}

// A spool that is encrypted is read with the identity, and not without.
func TestEncryptedSpool(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "capture")
	s, err := spool.Open(spool.Options{Dir: dir, Recipients: []age.Recipient{identity.Recipient()}, BesideBytes: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{8, 2000} {
		r := &capture.Record{
			Inference: fmt.Sprint("secret", n), Time: time.Unix(1_700_000_000, 0), Model: "fraud", Kind: capture.Explicit,
			Inputs: []capture.Tensor{{Name: "data", DType: tensor.FP32, Shape: []int64{1, int64(n) / 4}, Data: make([]byte, n)}},
		}
		if err := s.Append(context.Background(), capture.Single(r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, said := picketSpool("cat", dir, "--identity", key)
	if code != exitDone || strings.Count(out, "\n") != 2 || !strings.Contains(out, `"secret8"`) || !strings.Contains(out, `"secret2000"`) {
		t.Errorf("with the identity: %d %s %s", code, out, said)
	}
	code, out, said = picketSpool("cat", dir)
	if code == exitDone || strings.Contains(out, "secret") || !strings.Contains(said, "no identity opens the segment") {
		t.Errorf("without: %d %s %s", code, out, said)
	}
}

func TestSpoolCommands(t *testing.T) {
	const records = 20
	dir := spooled(t, records)
	code, out, said := picketSpool("ls", dir, "--json")
	var list struct{ Segments []spoolSegment }
	if err := json.Unmarshal([]byte(out), &list); code != exitDone || err != nil || len(list.Segments) < 2 || list.Segments[0].First != 1 {
		t.Errorf("ls: %d %s %s %v", code, out, said, err)
	}
	code, out, said = picketSpool("cat", dir)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != exitDone || len(lines) != records {
		t.Fatalf("cat: %d, %d lines %s", code, len(lines), said)
	}
	var r spoolRecord
	if err := json.Unmarshal([]byte(lines[3]), &r); err != nil || r.Inference != "r3" || len(r.Inputs[0].Data) != 2000 {
		t.Errorf("the fourth record is %+v, %v", r, err)
	}
	check := func(wantCode int, want spoolAccounts) {
		t.Helper()
		code, out, said := picketSpool("verify", dir, "--json")
		var a spoolAccounts
		if err := json.Unmarshal([]byte(out), &a); err != nil || code != wantCode {
			t.Fatalf("verify: %d %s %s %v", code, out, said, err)
		}
		if a.Accepted != want.Accepted || a.Uploaded != want.Uploaded || a.OnDisk != want.OnDisk || a.Quarantined != want.Quarantined || a.Dropped != 0 ||
			a.OK != (wantCode == exitDone) || a.Accepted != a.Uploaded+a.OnDisk+a.Dropped+a.Quarantined {
			t.Errorf("verify: %s", out)
		}
	}
	check(exitDone, spoolAccounts{Accepted: records, OnDisk: records})

	// One byte in the middle of the first segment: one record is lost, and said to be.
	segments, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-20] ^= 1
	if err := os.WriteFile(segments[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	check(exitFailed, spoolAccounts{Accepted: records, OnDisk: records - 1, Quarantined: 1})

	to := filepath.Join(t.TempDir(), "records.jsonl")
	if code, _, said := picketSpool("drain", dir); code != exitUsage || !strings.Contains(said, "--to FILE") {
		t.Errorf("drain without a file: %d %s", code, said)
	}
	if code, out, said := picketSpool("drain", dir, "--to", to); code != exitDone || out != fmt.Sprintf("moved %d records to %s\n", records-1, to) {
		t.Errorf("drain: %d %s %s", code, out, said)
	}
	b, err = os.ReadFile(to)
	if err != nil || strings.Count(string(b), "\n") != records-1 {
		t.Errorf("%d lines were moved, %v", strings.Count(string(b), "\n"), err)
	}
	check(exitDone, spoolAccounts{Accepted: records, Uploaded: records - 1, Quarantined: 1})
}

func TestDrainNeedsTheSpool(t *testing.T) {
	dir := spooled(t, 1)
	s, err := spool.Open(spool.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if code, _, said := picketSpool("drain", dir, "--to", filepath.Join(t.TempDir(), "x")); code != exitFailed || !strings.Contains(said, "stop the daemon") {
		t.Errorf("drain beside a daemon: %d %s", code, said)
	}
	if code, out, said := picketSpool("verify", dir); code != exitDone || !strings.Contains(out, "1 records accepted") {
		t.Errorf("verify beside a daemon: %d %s %s", code, out, said)
	}
	if code, _, _ := picketSpool("ls", filepath.Join(dir, "none")); code != exitFailed {
		t.Errorf("ls of nothing: %d", code)
	}
}

// TestNoSpool shows that a folder that is none is neither taken for one nor made one.
func TestNoSpool(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "picketd.yaml"), "unsigned: true\n")
	for _, args := range [][]string{{"ls"}, {"cat"}, {"verify"}, {"drain", "--to", filepath.Join(t.TempDir(), "x")}} {
		if code, out, said := picketSpool(append(args, dir)...); code != exitFailed || out != "" || !strings.Contains(said, "there is none in "+dir) {
			t.Errorf("%s of a folder: %d %s %s", args[0], code, out, said)
		}
		none := filepath.Join(dir, "none")
		if code, out, said := picketSpool(append(args, none)...); code != exitFailed || out != "" || !strings.Contains(said, none) {
			t.Errorf("%s of nothing: %d %s %s", args[0], code, out, said)
		}
		if _, err := os.Stat(none); err == nil {
			t.Fatalf("%s has made a spool", args[0])
		}
	}
}

// A spool whose recipients were changed is read as far as the identities go, and what they do not open is named.
func TestSpoolOfTwoKeys(t *testing.T) {
	dir, keys := filepath.Join(t.TempDir(), "capture"), t.TempDir()
	var files []string
	for n, name := range []string{"old", "new"} {
		identity, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, writeFile(t, filepath.Join(keys, name), identity.String()+"\n"))
		s, err := spool.Open(spool.Options{Dir: dir, Recipients: []age.Recipient{identity.Recipient()}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range n + 1 {
			r := &capture.Record{Inference: fmt.Sprint(name, i), Time: time.Unix(1_700_000_000, 0), Model: "fraud", Kind: capture.Explicit}
			if err := s.Append(context.Background(), capture.Single(r)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	text := ""
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text += string(data)
	}
	both := writeFile(t, filepath.Join(keys, "both"), text)

	code, out, said := picketSpool("cat", dir, "--identity", files[1])
	if code != exitFailed || strings.Count(out, `"inference":"new`) != 2 || strings.Count(out, "\n") != 2 || !strings.Contains(said, "segment 1 of 1 records") || !strings.Contains(said, "none of the identities opens: 1;") {
		t.Errorf("cat with the newer key: %d %s %s", code, out, said)
	}
	if code, out, said := picketSpool("cat", dir); code != exitFailed || out != "" || !strings.Contains(said, "segments that are encrypted: 2;") {
		t.Errorf("cat without a key: %d %s %s", code, out, said)
	}
	code, out, said = picketSpool("verify", dir, "--identity", files[1], "--json")
	var a spoolAccounts
	if err := json.Unmarshal([]byte(out), &a); err != nil || code != exitFailed || a.OK || a.Unopened != 1 || len(a.Problems) != 0 || a.OnDisk != 3 || strings.Contains(said, "damaged") {
		t.Errorf("verify with the newer key: %d %s %s %v", code, out, said, err)
	}
	to := filepath.Join(t.TempDir(), "records.jsonl")
	if code, _, said := picketSpool("drain", dir, "--identity", files[1], "--to", to); code != exitFailed || !strings.Contains(said, "0 records were moved") {
		t.Errorf("drain with the newer key: %d %s", code, said)
	}
	if code, out, said := picketSpool("cat", dir, "--identity", both); code != exitDone || strings.Count(out, "\n") != 3 {
		t.Errorf("cat with both: %d %s %s", code, out, said)
	}
	if code, out, said := picketSpool("drain", dir, "--identity", both, "--to", to); code != exitDone || out != fmt.Sprintf("moved 3 records to %s\n", to) {
		t.Errorf("drain with both: %d %s %s", code, out, said)
	}
}
