//go:build cgo && linux

package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/spool"
)

// With recipients nothing of what was asked, answered or told is on the disk in the clear, in files of the spool or beside it; who has
// the identity reads all of it, and a later process of the daemon that has it sends what the one before has left.
func TestCapturesAreEncrypted(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	const marker = "4111-1111-1111-1111 belongs to nobody else"
	c := startCaptured(t, "{rate: 1}", ", beside_bytes: 1KiB, recipients: ["+identity.Recipient().String()+"]")
	row := []byte(strings.Repeat(marker, 3)[:30*4])
	for _, rows := range []int{1, 2000} { // beside its record, too
		in := &agentapi.Tensor{Data: &agentapi.Tensor_ByteData{ByteData: bytes.Repeat(row, rows)}}
		if _, err := c.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{in}}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = c.CaptureData(t.Context(), &agentapi.CaptureDataRequest{
		ModelName: "fraud", CaptureId: "secret-id",
		Inputs: []*agentapi.AuxilaryData{{Name: "card", Encoding: agentapi.Encoding_NONE, Data: &agentapi.AuxilaryData_ByteData{ByteData: []byte(marker)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if code, said := c.truth(t, `[{"id": "secret-id", "outcome": {"note": "`+marker+`"}}]`); code != 200 {
		t.Fatalf("telling an outcome: %d %s", code, said)
	}
	wait(t, func() bool { return c.metric(t, "accepted_records_total") == 4 })
	c.stop(t)

	dir := filepath.Join(stateOfCapture(t, c.file), "capture")
	files, sealed := 0, 0
	err = filepath.WalkDir(filepath.Dir(dir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files++
		if strings.HasSuffix(path, ".seg") || strings.HasSuffix(path, ".big") {
			sealed++
		}
		for _, secret := range []string{marker, marker[:12], "secret-id", "fraud"} {
			if bytes.Contains(b, []byte(secret)) && (secret != "fraud" || strings.HasPrefix(path, dir)) {
				t.Errorf("%s has %q in the clear", path, secret)
			}
		}
		return err
	})
	if err != nil || sealed < 2 {
		t.Fatalf("%d files, %d of them with records: %v", files, sealed, err)
	}

	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, with := range [][]age.Identity{nil, {stranger}} {
		if _, err := recordsIn(t, dir, with); !errors.Is(err, spool.ErrKey) {
			t.Errorf("without the identity: %v", err)
		}
	}
	records, err := recordsIn(t, dir, []age.Identity{identity})
	if err != nil || len(records) != 4 {
		t.Fatalf("%d records: %v", len(records), err)
	}
	kinds := map[capture.Kind]int{}
	for _, r := range records {
		kinds[r.Kind]++
	}
	if kinds[capture.Sample] != 2 || kinds[capture.Explicit] != 1 || kinds[capture.Truth] != 1 {
		t.Errorf("%v", kinds)
	}

	// The next process has the identity, and somewhere to send them.
	key := filepath.Join(c.dir, "identity")
	if err := os.WriteFile(key, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	text := readFile(t, c.file)
	text = strings.Replace(text, "recipients:", "identity: "+key+", destination: {directory: "+to+"}, residency: {destinations: [{directory: "+to+"}], models: [{model: fraud, samples: true, otherwise: allow, outputs: allow, auxiliary: allow, truth: allow, ids: allow}]}, upload: {compression: none}, recipients:", 1)
	if err := os.WriteFile(c.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.process = launch(t, c.path, nil, "--config", c.file)
	c.connect(t)
	wait(t, func() bool { return c.metric(t, "on_disk_records") == 0 })
	if n := c.metric(t, "uploaded_records_total"); n != 4 {
		t.Errorf("%d of 4 records have left\n%s", n, &c.stderr)
	}
	c.stop(t)
}

// recordsIn reads a spool as `picket spool cat` does.
func recordsIn(t *testing.T, dir string, with []age.Identity) (all []capture.Record, err error) {
	t.Helper()
	s, err := spool.Open(spool.Options{Dir: dir, ReadOnly: true, Identities: with})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for _, g := range s.Segments() {
		for b, err := range s.Batches(g) {
			if err != nil {
				return nil, err
			}
			all = append(all, b.Records...)
		}
	}
	return all, nil
}
