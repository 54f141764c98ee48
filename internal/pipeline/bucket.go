package pipeline

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/picket-ml/picket/internal/cloud"
)

// bucket is the pipeline's place in S3. Its methods try once; errors are for cloud.Retry to judge.
type bucket struct {
	client *s3.Client
	kmsKey string
}

// maxObject is what S3 takes in one piece, and what a pipeline takes from it.
const maxObject = 5 << 30

// location is an object, or the prefix of some.
type location struct{ bucket, key string }

func (l location) String() string { return "s3://" + l.bucket + "/" + l.key }

// below is an object or prefix under l.
func (l location) below(parts ...string) location {
	l.key = strings.Trim(strings.Join(append([]string{strings.TrimSuffix(l.key, "/")}, parts...), "/"), "/")
	return l
}

// parseLocation reads s3://BUCKET/KEY.
func parseLocation(uri string) (location, error) {
	name, key, err := cloud.ParseS3(uri)
	return location{name, key}, err
}

// put makes f an object, unless it is there: then it must have the same bytes. The store compares what arrives with the
// digest, so that what is there is what was read here.
func (b *bucket) put(ctx context.Context, to location, f file) error {
	if f.Size > maxObject {
		return fmt.Errorf("%s has %d bytes, S3 takes %d in one piece: split it into several files", f.Path, f.Size, int64(maxObject))
	}
	opened, err := os.Open(f.from)
	if err != nil {
		return err
	}
	defer opened.Close()
	return b.putBytes(ctx, to, f, opened)
}

func (b *bucket) putBytes(ctx context.Context, to location, f file, content io.ReadSeeker) error {
	sum, err := hex.DecodeString(f.SHA256)
	if err != nil {
		return fmt.Errorf("the digest of %s: %w", f.Path, err)
	}
	in := &s3.PutObjectInput{
		Bucket: &to.bucket, Key: &to.key, Body: content, ContentLength: &f.Size, IfNoneMatch: aws.String("*"),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum)),
		Metadata:       map[string]string{digestMetadata: f.SHA256},
	}
	if b.kmsKey != "" {
		in.ServerSideEncryption, in.SSEKMSKeyId = types.ServerSideEncryptionAwsKms, &b.kmsKey
	}
	_, err = b.client.PutObject(ctx, in)
	switch {
	case err == nil:
		return nil
	case cloud.Code(err) == "BadDigest", cloud.Code(err) == "XAmzContentChecksumMismatch":
		return fmt.Errorf("%s was changed while it was uploaded: run again when it is complete", f.Path)
	case !cloud.Changed(err):
		return err
	}
	return b.compare(ctx, to, f)
}

// digestMetadata is where the digest stands in an object's metadata: a store may keep no checksum.
const digestMetadata = "picket-sha256"

// errOther: the object is there with other bytes.
var errOther = errors.New("is there already, with other bytes")

// compare looks whether an object is f.
func (b *bucket) compare(ctx context.Context, at location, f file) error {
	head, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &at.bucket, Key: &at.key})
	if err != nil {
		return err
	}
	if aws.ToInt64(head.ContentLength) != f.Size || head.Metadata[digestMetadata] != f.SHA256 {
		return fmt.Errorf("%v %w", at, errOther)
	}
	return nil
}

// has tells whether there is such an object.
func (b *bucket) has(ctx context.Context, at location) (bool, error) {
	_, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &at.bucket, Key: &at.key})
	if cloud.NotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// get writes an object to a new file, which is removed again where that fails.
func (b *bucket) get(ctx context.Context, from location, path string) (err error) {
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &from.bucket, Key: &from.key})
	if err != nil {
		return err
	}
	defer out.Body.Close()
	if size := aws.ToInt64(out.ContentLength); size > maxObject {
		return fmt.Errorf("it has %d bytes, more than %d", size, int64(maxObject))
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(path)
		}
	}()
	n, err := io.Copy(f, io.LimitReader(out.Body, maxObject+1))
	switch {
	case err != nil:
		return err
	case n > maxObject:
		return fmt.Errorf("it has more than %d bytes", int64(maxObject))
	case out.ContentLength != nil && n != *out.ContentLength:
		return io.ErrUnexpectedEOF
	}
	return nil
}
