package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/picket-ml/picket/internal/cloud"
	"github.com/picket-ml/picket/internal/transfer"
)

// S3 is a Bucket in S3, or in what speaks like it.
type S3 struct {
	client         *s3.Client
	bucket, prefix string
}

// URL implements Bucket.
func (b *S3) URL(key string) string { return "s3://" + b.bucket + "/" + b.prefix + key }

func (b *S3) key(key string) *string { return aws.String(b.prefix + key) }

// said turns an answer of S3 into ours.
func said(err error) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return cloud.Explain(err)
	}
	switch api.ErrorCode() {
	case "NoSuchKey", "NotFound":
		return ErrAbsent
	case "NotModified":
		return ErrNotModified
	case "PreconditionFailed", "ConditionalRequestConflict":
		return ErrConflict
	}
	return cloud.Explain(err)
}

// status is the HTTP status of an error's answer; 0 for none.
func status(err error) int {
	var response interface{ HTTPStatusCode() int }
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

// Get implements Bucket.
func (b *S3) Get(ctx context.Context, key, etag string, limit int64) ([]byte, string, error) {
	in := &s3.GetObjectInput{Bucket: &b.bucket, Key: b.key(key)}
	if etag != "" {
		in.IfNoneMatch = &etag
	}
	out, err := b.client.GetObject(ctx, in)
	if err != nil {
		if status(err) == 304 {
			return nil, etag, ErrNotModified
		}
		return nil, "", said(err)
	}
	defer out.Body.Close()
	if n := aws.ToInt64(out.ContentLength); n > limit {
		return nil, "", fmt.Errorf("it has %d bytes, more than the %d that it may have", n, limit)
	}
	data, err := readAtMost(out.Body, limit)
	return data, aws.ToString(out.ETag), err
}

// Put implements Bucket.
func (b *S3) Put(ctx context.Context, key string, data []byte, c Condition) error {
	return b.put(ctx, key, bytes.NewReader(data), int64(len(data)), c)
}

// Upload implements Bucket.
func (b *S3) Upload(ctx context.Context, key string, from *os.File) error {
	_, err := transfer.Push(ctx, from, b.object(key), transfer.PushOptions{Retry: patience()})
	if errors.Is(err, transfer.ErrExists) {
		return ErrConflict
	}
	return err
}

func (b *S3) object(key string) transfer.Object {
	return transfer.Object{Client: b.client, Bucket: b.bucket, Key: b.prefix + key}
}

// patience is how long one try of a transfer goes on: a device looks again anyhow, and
// goes on where it was.
func patience() cloud.Policy {
	return cloud.Policy{First: time.Second, Longest: 10 * time.Second, Patience: time.Minute}
}

func (b *S3) put(ctx context.Context, key string, from io.Reader, size int64, c Condition) error {
	in := &s3.PutObjectInput{Bucket: &b.bucket, Key: b.key(key), Body: from, ContentLength: &size}
	if c.Absent {
		in.IfNoneMatch = aws.String("*")
	}
	if c.Tag != "" {
		in.IfMatch = &c.Tag
	}
	_, err := b.client.PutObject(ctx, in)
	if code := status(err); code == 412 || code == 409 {
		return ErrConflict
	}
	return said(err)
}

// Download implements Bucket.
func (b *S3) Download(ctx context.Context, key, path string, size int64) error {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer root.Close()
	p, err := transfer.Pull(ctx, b.object(key), root, filepath.Base(path), transfer.PullOptions{
		Retry: patience(), Replace: true,
		Check: func(f *os.File) error {
			if info, err := f.Stat(); err != nil || size != AnySize && info.Size() != size {
				return fmt.Errorf("it has another size than the %d bytes that it should have", size)
			}
			return nil
		},
	})
	if err == nil && size != AnySize && p.Bytes != size {
		err = fmt.Errorf("it has %d bytes, and should have %d", p.Bytes, size)
	}
	return err
}
