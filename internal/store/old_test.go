package store

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"testing"
	"time"
)

// oldArchive is one as the old service's packaging job left them, except for its signature, of which nothing is known.
func oldArchive(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	w := tar.NewWriter(zip)
	for name, text := range map[string]string{
		"./sagemaker_edge_manifest": `{"metadata": {"model_name": "old", "model_version": "1.0"}, "signature": "unknown"}`, "./compiled.so": "old code",
	} {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o755, Uid: 1000, Uname: "ec2-user", ModTime: time.Unix(1600000000, 0)})
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
