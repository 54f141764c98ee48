package upload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/picket-ml/picket/internal/cloud"
)

// Bucket says where in S3 objects go.
type Bucket struct {
	// Name is the bucket's, or the ARN of an access point.
	Name string
	// Account is the bucket's owner; S3 refuses where it is another one's. Empty for any.
	Account string
	// Unverified leaves out asking for each object after it was stored.
	Unverified bool
}

// bucket is a Destination.
type bucket struct {
	client *s3.Client
	Bucket
	// unconditional is set once the store has said that it knows no conditions.
	unconditional atomic.Bool
}

// NewBucket sends to b with client, which cloud.Options make. The client is the
// caller's.
func NewBucket(client *s3.Client, b Bucket) Destination { return &bucket{client: client, Bucket: b} }

// contentNote is the digest of what an object is before compression, in its metadata.
const contentNote = "picket-content-sha256"

func (b *bucket) URL(key string) string { return "s3://" + b.Name + "/" + key }

func (b *bucket) owner() *string {
	if b.Account == "" {
		return nil
	}
	return aws.String(b.Account)
}

// once leaves trying again to the Uploader, which knows of all objects.
func once(o *s3.Options) { o.RetryMaxAttempts = 1 }

func (b *bucket) Put(ctx context.Context, item *Item) (string, error) {
	if b.unconditional.Load() {
		tag, ok, err := b.same(ctx, item)
		if err != nil || ok {
			return tag, err
		}
	}
	digest := sha256.Sum256(item.Body)
	notes := maps.Clone(item.Notes)
	if notes == nil {
		notes = map[string]string{}
	}
	notes[contentNote] = hexOf(item.Content)
	in := &s3.PutObjectInput{
		Bucket: aws.String(b.Name), Key: aws.String(item.Key), Body: bytes.NewReader(item.Body), ContentLength: aws.Int64(int64(len(item.Body))),
		ContentType: aws.String(item.ContentType), Metadata: notes, ExpectedBucketOwner: b.owner(),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: aws.String(base64Of(digest)),
	}
	if !b.unconditional.Load() {
		in.IfNoneMatch = aws.String("*")
	}
	out, err := b.client.PutObject(ctx, in, once)
	switch code := cloud.Code(err); {
	case err == nil:
	case code == "NotImplemented" || code == "501":
		if b.unconditional.Swap(true) {
			return "", b.failed("storing", item.Key, err)
		}
		return b.Put(ctx, item)
	case cloud.Changed(err):
		tag, ok, err := b.same(ctx, item)
		if err == nil && !ok {
			err = fmt.Errorf("storing %s: the store says both that it is there and that it is not", b.URL(item.Key))
		}
		return tag, err
	default:
		return "", b.failed("storing", item.Key, err)
	}
	tag := unquoted(out.ETag)
	if b.Unverified {
		return tag, nil
	}
	return tag, b.verify(ctx, item, tag, digest)
}

// verify asks the store for what it said that it has: some say so and lose it.
func (b *bucket) verify(ctx context.Context, item *Item, tag string, digest [sha256.Size]byte) error {
	out, err := b.head(ctx, item.Key)
	switch {
	case err != nil:
		return err
	case out == nil:
		return fmt.Errorf("storing %s: the store said that it has it, and has not", b.URL(item.Key))
	case unquoted(out.ETag) != tag, aws.ToInt64(out.ContentLength) != int64(len(item.Body)),
		out.ChecksumSHA256 != nil && *out.ChecksumSHA256 != base64Of(digest), out.Metadata[contentNote] != hexOf(item.Content):
		return fmt.Errorf("storing %s: the store has something else than what it was sent", b.URL(item.Key))
	}
	return nil
}

// same tells whether the store has the item's content; something else under its key is an
// error. Another version of the program may have compressed it to other bytes.
func (b *bucket) same(ctx context.Context, item *Item) (string, bool, error) {
	out, err := b.head(ctx, item.Key)
	if err != nil || out == nil {
		return "", false, err
	}
	if out.Metadata[contentNote] != hexOf(item.Content) {
		return "", false, taken(b.URL(item.Key))
	}
	return unquoted(out.ETag), true, nil
}

func (b *bucket) Has(ctx context.Context, key string) (string, bool, error) {
	out, err := b.head(ctx, key)
	if err != nil || out == nil {
		return "", false, err
	}
	return unquoted(out.ETag), true, nil
}

// head is what the store says of a key; nil for nothing there.
func (b *bucket) head(ctx context.Context, key string) (*s3.HeadObjectOutput, error) {
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: aws.String(b.Name), Key: aws.String(key), ExpectedBucketOwner: b.owner(), ChecksumMode: types.ChecksumModeEnabled,
	}, once)
	if cloud.NotFound(err) && cloud.Code(err) != "NoSuchBucket" {
		return nil, nil
	}
	if err != nil {
		return nil, b.failed("asking for", key, err)
	}
	return out, nil
}

// Close leaves the client to its owner.
func (b *bucket) Close() error { return nil }

// failed is a sentence about the object.
func (b *bucket) failed(doing, key string, err error) error {
	explained := cloud.Explain(err)
	if b.Account != "" && cloud.Denied(err) {
		explained = fmt.Errorf("%w; it is also refused where the bucket's owner is not the account %s", explained, b.Account)
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%s %s: %w", doing, b.URL(key), explained)
}

func unquoted(tag *string) string { return strings.Trim(aws.ToString(tag), `"`) }
