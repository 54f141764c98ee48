package upload

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/picket-ml/picket/internal/alarm"
	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/format"
	"github.com/picket-ml/picket/internal/capture/residency"
	"github.com/picket-ml/picket/internal/capture/spool"
	"github.com/picket-ml/picket/tensor"
)

// everything is a policy that lets all leave.
func everything(t testing.TB, version string) *residency.Policy {
	p, err := residency.New(residency.Options{Version: version, Models: []residency.ModelRule{{
		Model: residency.AnyModel, Samples: true, Otherwise: residency.Allow, Outputs: residency.Allow, Auxiliary: residency.Allow, Truth: residency.Allow, IDs: residency.Allow,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func openSpool(t testing.TB, dir string, o spool.Options) *spool.Spool {
	t.Helper()
	o.Dir, o.Alarm = filepath.Join(dir, "spool"), alarm.OfRuntime // in some tests time is not the host's
	s, err := spool.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// event is a captured request whose id is its number.
func event(model string, number int, at time.Time) *capture.Entry {
	row := make([]byte, 12)
	for i := range 3 {
		binary.LittleEndian.PutUint32(row[4*i:], math.Float32bits(float32(number+i)))
	}
	return capture.Single(&capture.Record{
		Inference: strconv.Itoa(number), Time: at, Model: model, Version: "1", Kind: capture.Sample, Rows: 1,
		Inputs:  []capture.Tensor{{Name: "data", DType: tensor.FP32, Shape: []int64{1, 3}, Data: row}},
		Outputs: []capture.Tensor{{Name: "score", DType: tensor.FP32, Shape: []int64{1, 1}, Data: row[:4]}},
	})
}

func endpointOnly(string) []format.Kind { return []format.Kind{format.Endpoint} }

// options are those of an Uploader of everything, as lines of an endpoint.
func options(t testing.TB, dir string, s Source, d Destination) Options {
	return Options{
		Source: s, Destination: d, Policy: everything(t, "1"), Audit: residency.NewAudit(filepath.Join(dir, "audit")),
		Format: format.Options{Device: "device"}, KindsOf: endpointOnly, Log: slog.New(slog.DiscardHandler),
	}
}

// running is an Uploader at work.
type running struct {
	*Uploader
	end func()
}

// start runs an Uploader until end is called.
func start(t testing.TB, o Options) *running {
	t.Helper()
	u := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- u.Run(ctx) }()
	return &running{u, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the uploader failed: %v", err)
		}
		if err := o.Audit.Close(); err != nil {
			t.Error(err)
		}
	}}
}

// unpacked is the content of an object.
func unpacked(t testing.TB, key string, body []byte) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	var err error
	switch {
	case strings.HasSuffix(key, ".gz"):
		r, err = gzip.NewReader(r)
	case strings.HasSuffix(key, ".zst"):
		var d *zstd.Decoder
		if d, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1)); err == nil {
			defer d.Close()
			r = d
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return content
}

// idsIn counts the events in objects that are lines of an endpoint.
func idsIn(t testing.TB, objects map[string][]byte) map[string]int {
	t.Helper()
	ids := map[string]int{}
	for key, body := range objects {
		for line := range bytes.Lines(unpacked(t, key, body)) {
			var record struct{ EventMetadata struct{ EventID string } }
			if err := json.Unmarshal(line, &record); err != nil || record.EventMetadata.EventID == "" {
				t.Fatalf("%s: %q: %v", key, line, err)
			}
			ids[record.EventMetadata.EventID]++
		}
	}
	return ids
}

// within waits for a condition, for longer than any machine needs.
func within(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// audited holds the audit log of a finished run against what arrived: each object was announced before, and all
// that is announced as stored is there.
func checkAudit(t testing.TB, dir string, objects map[string][]byte) {
	t.Helper()
	sent, stored := map[string]bool{}, map[string]bool{}
	_, err := residency.VerifyAudit(filepath.Join(dir, "audit"), func(e residency.Entry) error {
		switch e.Event {
		case residency.Sending:
			sent[e.Object] = true
		case residency.Stored:
			if !sent[e.Object] {
				return errors.New(e.Object + " was stored before it was sent")
			}
			stored[e.Object] = true
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for key := range objects {
		if url := "s3://bucket/" + key; !sent[url] || !stored[url] {
			t.Errorf("%s is not in the audit log: sent %v, stored %v", key, sent[url], stored[url])
		}
	}
	if len(stored) != len(objects) {
		t.Errorf("%d objects are stored by the audit log, and %d are there", len(stored), len(objects))
	}
}
