package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
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
		return err
	}
	switch api.ErrorCode() {
	case "NoSuchKey", "NotFound":
		return ErrAbsent
	case "NotModified":
		return ErrNotModified
	case "PreconditionFailed", "ConditionalRequestConflict":
		return ErrConflict
	}
	return err
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
func (b *S3) Upload(ctx context.Context, key string, from io.ReadSeeker, size int64) error {
	return b.put(ctx, key, from, size, Condition{Absent: true})
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
func (b *S3) Download(ctx context.Context, key, path string, size int64) (err error) {
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.bucket, Key: b.key(key)})
	if err != nil {
		return said(err)
	}
	defer out.Body.Close()
	partial := path + ".part"
	file, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(file, io.LimitReader(out.Body, size+1))
	if err == nil && n != size {
		err = fmt.Errorf("it has another size than the %d bytes that it should have", size)
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(partial, path)
}
