package transfer

import (
	"os"
	"path/filepath"
	"testing"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/picket-ml/picket/internal/testkit/s3"
)

// BenchmarkPull is for profiles; make bench-transfer compares with other programs.
func BenchmarkPull(b *testing.B) {
	const size = 256 << 20
	server := s3.Start(b)
	bucket, client := server.NewBucket(b), server.Client(b)
	push(b, client, bucket, random(size))
	dir := "/dev/shm"
	if _, err := os.Stat(dir); err != nil {
		dir = b.TempDir()
	}
	dir, err := os.MkdirTemp(dir, "picket-pull-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	root, err := os.OpenRoot(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = root.Close() })
	b.SetBytes(size)
	for b.Loop() {
		if _, err := Pull(b.Context(), Object{Client: client, Bucket: bucket, Key: "m-1"}, root, "m-1", PullOptions{Retry: once()}); err != nil {
			b.Fatal(err)
		}
		if err := root.Remove("m-1"); err != nil {
			b.Fatal(err)
		}
	}
}

func push(b *testing.B, client *awss3.Client, bucket string, body []byte) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "file")
	if err := os.WriteFile(path, body, 0o600); err != nil {
		b.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	if _, err := Push(b.Context(), file, Object{Client: client, Bucket: bucket, Key: "m-1"}, PushOptions{Retry: once()}); err != nil {
		b.Fatal(err)
	}
}
