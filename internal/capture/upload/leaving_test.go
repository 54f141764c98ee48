package upload

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/parquet-go/parquet-go"

	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/format"
	"github.com/picket-ml/picket/internal/capture/residency"
	"github.com/picket-ml/picket/internal/capture/spool"
	"github.com/picket-ml/picket/internal/testkit/s3"
	"github.com/picket-ml/picket/tensor"
)

// What must not leave, in each form that it could have.
var (
	secretNumber = float32(31415.927)
	secretText   = "card-4711-0815"
)

func secretForms() [][]byte {
	number := binary.LittleEndian.AppendUint32(nil, math.Float32bits(secretNumber))
	wide := binary.LittleEndian.AppendUint64(nil, math.Float64bits(float64(secretNumber)))
	return [][]byte{number, wide, []byte("31415.9"), []byte(secretText), []byte("-4711-")} // digests have digits, too, by chance these four, and no hyphens
}

// The policy is tested by reading every byte that reached the store: what it drops, hashes, buckets and truncates is
// nowhere, in no format, in no name and no metadata; and what it allows is there.
func TestEveryByteThatLeft(t *testing.T) {
	server := s3.Start(t)
	bucket := server.NewBucket(t)
	policy, err := residency.New(residency.Options{
		Salt: []byte("0123456789abcdef"), Models: []residency.ModelRule{
			{
				Model: "fraud", Samples: true, Columns: []string{"open", "dropped", "hashed", "bucketed", "cut"}, Truth: residency.Allow,
				Features: []residency.FeatureRule{
					{Feature: "open", Action: residency.Allow},
					{Feature: "hashed", Action: residency.Hash},
					{Feature: "bucketed", Action: residency.Bucket, Bounds: []float64{0, 100}},
					{Feature: "cut", Action: residency.Truncate, Digits: -4},
					{Tensor: "score", Action: residency.Allow},
				},
			},
			{Model: "quiet"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := openSpool(t, dir, spool.Options{SegmentAge: 50 * time.Millisecond, BesideBytes: 1 << 10})
	defer s.Close()
	const open = float32(2718.2817)
	row := []byte{}
	for _, v := range []float32{open, secretNumber, secretNumber, secretNumber, secretNumber} {
		row = binary.LittleEndian.AppendUint32(row, math.Float32bits(v))
	}
	record := func(model, id string) *capture.Record {
		return &capture.Record{
			Inference: id, Time: time.Now(), Model: model, Version: "1", Kind: capture.Explicit, Rows: 1,
			Inputs: []capture.Tensor{
				{Name: "data", DType: tensor.FP32, Shape: []int64{1, 5}, Data: row},
				{Name: "more", DType: tensor.FP32, Shape: []int64{1, 1}, Data: row[4:8]},
				{Name: "large", DType: tensor.FP32, Shape: []int64{1, 1000}, Data: bytes.Repeat(row[4:8], 1000)},
				{Name: "text", DType: tensor.Bytes, Shape: []int64{1}, Data: []byte(secretText)},
			},
			Outputs: []capture.Tensor{
				{Name: "score", DType: tensor.FP32, Shape: []int64{1, 1}, Data: row[:4]},
				{Name: "inside", DType: tensor.FP32, Shape: []int64{1, 1}, Data: row[4:8]},
			},
			AuxInputs: []capture.Payload{{Name: secretText, Encoding: capture.None, Data: []byte(secretText)}},
			Error:     secretText,
		}
	}
	truth := &capture.Record{
		Inference: secretText, Time: time.Now(), Model: "fraud", Kind: capture.Truth,
		AuxOutputs: []capture.Payload{{Encoding: capture.CSV, Data: []byte("1")}},
	}
	for _, e := range []*capture.Entry{capture.Single(record("fraud", secretText)), capture.Single(record("quiet", secretText+"-2")), capture.Single(record("nobody", secretText+"-3")), capture.Single(truth)} {
		if err := s.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	client := server.Client(t)
	o := options(t, dir, s, NewBucket(client, Bucket{Name: bucket}))
	o.Policy = policy
	o.KindsOf = func(string) []format.Kind { return []format.Kind{format.Edge, format.Endpoint, format.Parquet} }
	o.Format.Embed = 4 // payloads are objects of their own, too
	u := start(t, o)
	within(t, "everything has left or stayed", func() bool { return s.Stats().OnDisk == 0 })
	u.end()
	if st := s.Stats(); st.Uploaded != 2 || st.Dropped.Policy != 2 {
		t.Errorf("%+v", st)
	}

	// All files of the store: objects, names, metadata.
	var all bytes.Buffer
	files := 0
	err = filepath.WalkDir(filepath.Dir(server.Dir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		all.WriteString(path + "\n")
		content, err := os.ReadFile(path)
		all.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, body := range bucketOf(t, server, bucket) {
		head, err := client.HeadObject(t.Context(), headOf(bucket, key))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range head.Metadata {
			all.WriteString(name + "=" + value + "\n")
		}
		content := unpacked(t, key, body)
		all.Write(content)
		if filepath.Ext(key) == ".parquet" {
			all.Write(parquetText(t, content))
		}
		for _, word := range regexp.MustCompile(`[A-Za-z0-9+/]{4,}={0,2}`).FindAll(content, -1) {
			for cut := 0; cut < 4 && len(word) > cut; cut++ {
				if raw, err := base64.StdEncoding.DecodeString(string(word[cut:])); err == nil {
					all.Write(raw)
				}
			}
		}
	}
	if files < 5 {
		t.Errorf("only %d files are in the store", files)
	}
	for _, secret := range secretForms() {
		if at := bytes.Index(all.Bytes(), secret); at >= 0 {
			t.Errorf("%q has left: ...%q...", secret, all.Bytes()[max(0, at-100):min(all.Len(), at+100)])
		}
	}
	for _, allowed := range [][]byte{[]byte("2718.2817"), binary.LittleEndian.AppendUint32(nil, math.Float32bits(open)), []byte("30000"), []byte("groundTruthData")} {
		if !bytes.Contains(all.Bytes(), allowed) {
			t.Errorf("%q has not left, and may", allowed)
		}
	}
}

// parquetText is all values of a file.
func parquetText(t *testing.T, content []byte) []byte {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, group := range f.RowGroups() {
		rows := group.Rows()
		defer rows.Close()
		buffer := make([]parquet.Row, 8)
		for {
			n, err := rows.ReadRows(buffer)
			for _, row := range buffer[:n] {
				for _, v := range row {
					all = append(append(all, v.String()...), '\n')
					all = append(all, v.Bytes()...)
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

func headOf(bucket, key string) *awss3.HeadObjectInput {
	return &awss3.HeadObjectInput{Bucket: &bucket, Key: &key}
}
