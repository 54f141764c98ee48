package transfer

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/picket-ml/picket/internal/cloud"
)

// Object is a place in a bucket, and how it is reached.
type Object struct {
	Client      *s3.Client
	Bucket, Key string
}

// String is its URL.
func (o Object) String() string { return "s3://" + o.Bucket + "/" + o.Key }

// digestKey is the name, in an object's metadata, of the SHA-256 of its bytes, in
// hexadecimal. The stores' own checksums of large objects are of their parts.
const digestKey = "picket-sha256"

// Description is what the store says of an object.
type Description struct {
	ETag string
	Size int64
	// SHA256 is that of its bytes, in hexadecimal; empty where nobody noted it.
	SHA256 string
	// Tree is the digest of 64 KiB leaves, in hexadecimal; empty where nobody noted it.
	Tree string
	// CRC64NVME is that of its bytes as the store computed it, in base64; empty where
	// it does not say.
	CRC64NVME string
	// Metadata is what whoever pushed it said of it.
	Metadata map[string]string
}

// Describe asks what the object is; ifNot is an ETag that is known here, or empty. With
// unchanged nothing else is said. It asks once: wrap it in cloud.Retry.
func (o Object) Describe(ctx context.Context, ifNot string) (d Description, unchanged bool, err error) {
	in := &s3.HeadObjectInput{Bucket: &o.Bucket, Key: &o.Key, ChecksumMode: types.ChecksumModeEnabled}
	if ifNot != "" {
		in.IfNoneMatch = &ifNot
	}
	out, err := o.Client.HeadObject(ctx, in)
	if code := cloud.Code(err); code == "NotModified" || code == "304" {
		return d, true, nil
	}
	if err != nil {
		return d, false, o.reason(ctx, err)
	}
	d = Description{ETag: aws.ToString(out.ETag), Size: aws.ToInt64(out.ContentLength), SHA256: out.Metadata[digestKey], Tree: out.Metadata[treeKey], Metadata: out.Metadata}
	if d.ETag == "" || d.Size < 0 {
		return d, false, errors.New("the store says neither the size nor the ETag of the object, without which it cannot be fetched in parts")
	}
	if d.Size > maxObject {
		return d, false, fmt.Errorf("the store says that the object has %d bytes, which S3 does not allow", d.Size)
	}
	if raw, err := hex.DecodeString(d.SHA256); err != nil || len(raw) != 32 {
		d.SHA256 = ""
	}
	if raw, err := hex.DecodeString(d.Tree); err != nil || len(raw) != 32 || d.SHA256 == "" {
		d.Tree = "" // it stands for the other one
	}
	if raw, err := base64.StdEncoding.DecodeString(aws.ToString(out.ChecksumSHA256)); d.SHA256 == "" && err == nil && len(raw) == 32 && out.ChecksumType != types.ChecksumTypeComposite {
		d.SHA256 = hex.EncodeToString(raw)
	}
	if out.ChecksumType == types.ChecksumTypeFullObject {
		d.CRC64NVME = aws.ToString(out.ChecksumCRC64NVME)
	}
	return d, unchanged, nil
}

// reason asks for the object's first byte where the answer to HEAD, which has no body, did not say what is wrong.
func (o Object) reason(ctx context.Context, err error) error {
	switch code := cloud.Code(err); code {
	case "Forbidden", "BadRequest", "400", "403", "301", "MovedPermanently":
	default:
		return cloud.Explain(err)
	}
	return o.ask(ctx, err)
}

// ask is what the answer to GET says is wrong, where err, of HEAD, does not.
func (o Object) ask(ctx context.Context, err error) error {
	out, again := o.Client.GetObject(ctx, &s3.GetObjectInput{Bucket: &o.Bucket, Key: &o.Key, Range: aws.String("bytes=0-0")})
	if again == nil {
		_ = out.Body.Close() // it was not what is wanted
		return cloud.Explain(err)
	}
	if cloud.Code(again) == "" {
		return cloud.Explain(err)
	}
	return cloud.Explain(again)
}

// List gives the keys in bucket that begin with prefix, without those in folders below it, until yield returns false.
func List(ctx context.Context, client *s3.Client, bucket, prefix string, yield func(key string) bool) error {
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix, Delimiter: aws.String("/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return cloud.Explain(err)
		}
		for _, object := range page.Contents {
			if !yield(aws.ToString(object.Key)) {
				return nil
			}
		}
	}
	return nil
}

// get is a range of the object, from the byte at from up to that before to, on the condition that it is the one with
// this ETag. The caller closes the body, which may be shorter or longer than it should be.
func (o Object) get(ctx context.Context, etag string, from, to int64) (io.ReadCloser, error) {
	out, err := o.Client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &o.Bucket, Key: &o.Key, IfMatch: &etag, Range: aws.String(fmt.Sprintf("bytes=%d-%d", from, to-1)),
	})
	if cloud.Changed(err) {
		return nil, errChanged
	}
	if err != nil {
		return nil, cloud.Explain(err)
	}
	if got := aws.ToString(out.ContentRange); !strings.HasPrefix(got, fmt.Sprintf("bytes %d-%d/", from, to-1)) {
		_ = out.Body.Close() // it is not what was asked for
		return nil, fmt.Errorf("the store gave %q where the bytes %d to %d were asked for", got, from, to-1)
	}
	if got := aws.ToString(out.ETag); got != etag {
		_ = out.Body.Close() // it is another object
		return nil, errChanged
	}
	return out.Body, nil
}

// errChanged is an object that is not the one the download began with.
var errChanged = errors.New("the object changed while it was fetched")
