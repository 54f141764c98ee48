package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/picket-ml/picket/internal/cloud"
)

// PushOptions say how to store. The zero value is fit for most.
type PushOptions struct {
	// Parallel is how many parts are sent at a time; 0 for DefaultParallel.
	Parallel int
	// PartBytes is how large a part is, 5 MiB at least; 0 for DefaultPart. A file of at most one part is sent whole.
	PartBytes int64
	// Retry says how long to go on while the store cannot be reached.
	Retry cloud.Policy
	// Progress is told, from one goroutine at a time, how much has arrived; nil for nobody.
	Progress func(done, total int64)
	// Metadata is kept with the object.
	Metadata map[string]string
}

// Pushed is what became of a push.
type Pushed struct {
	SHA256 string
	ETag   string
	Bytes  int64
	// Unchanged tells that the very bytes were there already.
	Unchanged bool
}

// ErrExists is an object that is there already with other bytes.
var ErrExists = errors.New("the store has another object of that name, and never overwrites one")

const (
	// What S3 allows.
	minUploadPart  = 5 << 20
	maxUploadParts = 10_000
	maxObject      = 5 << 40
)

// Push stores the bytes of a file as an object that is not there yet. The file must not change meanwhile, which is noticed;
// it is only read, and is the caller's again afterwards. ErrExists says that the object is there and is another.
func Push(ctx context.Context, file *os.File, to Object, o PushOptions) (Pushed, error) {
	u := &upload{file: file, to: to, o: o}
	if u.o.Parallel <= 0 {
		u.o.Parallel = DefaultParallel
	}
	if u.o.PartBytes <= 0 {
		u.o.PartBytes = DefaultPart
	}
	info, err := file.Stat()
	if err != nil {
		return Pushed{}, err
	}
	size := info.Size()
	if size > maxObject {
		return Pushed{}, fmt.Errorf("it has %d bytes, and S3 takes no object of more than %d", size, int64(maxObject))
	}
	u.size, u.o.PartBytes = size, max(u.o.PartBytes, minUploadPart, (size+maxUploadParts-1)/maxUploadParts)
	if err := u.read(ctx); err != nil {
		return Pushed{}, err
	}
	p := Pushed{SHA256: u.digest, Bytes: size}
	if there, etag, err := u.there(ctx); there || err != nil {
		p.Unchanged, p.ETag = there, etag
		return p, err
	}
	var etag string
	if size <= u.o.PartBytes {
		etag, err = u.whole(ctx)
	} else {
		etag, err = u.inParts(ctx)
	}
	if cloud.Changed(err) {
		// Somebody was faster, or it was this push, whose answer was lost.
		there, etag, again := u.there(ctx)
		if again != nil {
			return p, again
		}
		if !there {
			return p, err
		}
		p.ETag = etag
		return p, nil
	}
	p.ETag = etag
	if err == nil && o.Progress != nil {
		o.Progress(size, size)
	}
	return p, err
}

// upload is one file on its way.
type upload struct {
	file   *os.File
	to     Object
	o      PushOptions
	size   int64
	digest string // of all of it, in hexadecimal
	tree   string // its leaves', in hexadecimal
	parts  [][sha256.Size]byte

	mu   sync.Mutex // Progress is told by one at a time
	sent int64
}

// read computes the digests. What is sent is held against them, so that the object is what they say.
func (u *upload) read(ctx context.Context) error {
	whole, leaves, buffer := sha256.New(), &treeWriter{}, make([]byte, hashBuffer)
	for from := int64(0); from < u.size || from == 0; from += u.o.PartBytes {
		if err := ctx.Err(); err != nil {
			return err
		}
		length := min(u.o.PartBytes, u.size-from)
		one := sha256.New()
		n, err := io.CopyBuffer(io.MultiWriter(whole, leaves, one), io.NewSectionReader(u.file, from, length), buffer)
		if err != nil {
			return err
		}
		if n != length {
			return errFileChanged
		}
		u.parts = append(u.parts, [sha256.Size]byte(one.Sum(nil)))
	}
	u.digest, u.tree = hex.EncodeToString(whole.Sum(nil)), leaves.hex()
	return nil
}

// load reads part i for sending, into buffer where it is large enough.
func (u *upload) load(i int, buffer []byte) ([]byte, error) {
	from := int64(i) * u.o.PartBytes
	buffer = buffer[:min(u.o.PartBytes, u.size-from)]
	if n, err := u.file.ReadAt(buffer, from); n < len(buffer) {
		if errors.Is(err, io.EOF) {
			err = errFileChanged
		}
		return nil, err
	}
	if sha256.Sum256(buffer) != u.parts[i] {
		return nil, errFileChanged
	}
	return buffer, nil
}

// there looks at what has the name now: true where it is the same bytes, ErrExists where it is others.
func (u *upload) there(ctx context.Context) (same bool, etag string, err error) {
	var d Description
	err = cloud.Retry(ctx, u.o.Retry, func(ctx context.Context) (err error) {
		d, _, err = u.to.Describe(ctx, "")
		return err
	})
	if cloud.NotFound(err) && cloud.Code(err) != "NoSuchBucket" {
		return false, "", nil
	}
	if err != nil {
		return false, "", err
	}
	digest := d.SHA256
	if digest == "" && d.Size == u.size {
		if digest, err = u.digestThere(ctx, d); err != nil {
			return false, "", err
		}
	}
	switch {
	case d.Size == u.size && digest == u.digest:
		return true, d.ETag, nil
	case digest == "":
		return false, "", fmt.Errorf("%w: it has %d bytes there, and %d here", ErrExists, d.Size, u.size)
	}
	return false, "", fmt.Errorf("%w: its SHA-256 is %s there, and %s here", ErrExists, digest, u.digest)
}

// digestThere reads the whole object, of which nobody noted a digest.
func (u *upload) digestThere(ctx context.Context, d Description) (string, error) {
	var sum string
	err := cloud.Retry(ctx, u.o.Retry, func(ctx context.Context) error {
		out, err := u.to.Client.GetObject(ctx, &s3.GetObjectInput{Bucket: &u.to.Bucket, Key: &u.to.Key, IfMatch: &d.ETag})
		if err != nil {
			return err
		}
		defer out.Body.Close()
		digest := sha256.New()
		if _, err := io.Copy(digest, io.LimitReader(out.Body, u.size+1)); err != nil {
			return err
		}
		sum = hex.EncodeToString(digest.Sum(nil))
		return nil
	})
	return sum, err
}

func (u *upload) metadata() map[string]string {
	m := map[string]string{}
	maps.Copy(m, u.o.Metadata)
	m[digestKey], m[treeKey] = u.digest, u.tree
	return m
}

// whole sends it in one request, whose bytes the store holds against our digest.
func (u *upload) whole(ctx context.Context) (etag string, err error) {
	body, err := u.load(0, make([]byte, u.size))
	if err != nil {
		return "", err
	}
	err = cloud.Retry(ctx, u.o.Retry, func(ctx context.Context) error {
		out, err := u.to.Client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &u.to.Bucket, Key: &u.to.Key, Body: bytes.NewReader(body), ContentLength: &u.size, IfNoneMatch: aws.String("*"), Metadata: u.metadata(),
			ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(u.parts[0][:])), ContentType: aws.String(contentType),
		})
		if err != nil {
			return err
		}
		etag = aws.ToString(out.ETag)
		return nil
	})
	return etag, err
}

const contentType = "application/gzip"

var errFileChanged = errors.New("the file changed while it was sent")

// inParts sends it as a multipart upload, which is given up where it fails for good, so that no parts are left to be paid for.
func (u *upload) inParts(ctx context.Context) (etag string, err error) {
	var id *string
	if err := cloud.Retry(ctx, u.o.Retry, func(ctx context.Context) error {
		out, err := u.to.Client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
			Bucket: &u.to.Bucket, Key: &u.to.Key, Metadata: u.metadata(), ContentType: aws.String(contentType), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		})
		if err != nil {
			return err
		}
		id = out.UploadId
		return nil
	}); err != nil {
		return "", err
	}
	defer func() {
		if err == nil {
			return
		}
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_, _ = u.to.Client.AbortMultipartUpload(last, &s3.AbortMultipartUploadInput{Bucket: &u.to.Bucket, Key: &u.to.Key, UploadId: id}) // a rule of the bucket ends what this does not
	}()
	parts, err := u.sendParts(ctx, id)
	if err != nil {
		return "", err
	}
	err = cloud.Retry(ctx, u.o.Retry, func(ctx context.Context) error {
		out, err := u.to.Client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &u.to.Bucket, Key: &u.to.Key, UploadId: id, IfNoneMatch: aws.String("*"), MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		})
		if err != nil {
			return err
		}
		etag = aws.ToString(out.ETag)
		return nil
	})
	if cloud.Code(err) == "NoSuchUpload" {
		// It was completed, and the answer was lost.
		if there, etag, again := u.there(ctx); again == nil && there {
			return etag, nil
		}
	}
	return etag, err
}

// sendParts sends all of them, some at a time.
func (u *upload) sendParts(ctx context.Context, id *string) ([]types.CompletedPart, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	count := len(u.parts)
	parts := make([]types.CompletedPart, count)
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range min(u.o.Parallel, count) {
		workers.Go(func() {
			buffer := make([]byte, u.o.PartBytes)
			for i := range numbers {
				var err error
				if parts[i], err = u.sendPart(ctx, id, i, buffer); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	for i := 0; i < count && ctx.Err() == nil; i++ {
		select {
		case numbers <- i:
		case <-ctx.Done():
		}
	}
	close(numbers)
	workers.Wait()
	return parts, context.Cause(ctx)
}

func (u *upload) sendPart(ctx context.Context, id *string, i int, buffer []byte) (types.CompletedPart, error) {
	buffer, err := u.load(i, buffer)
	if err != nil {
		return types.CompletedPart{}, err
	}
	checksum := base64.StdEncoding.EncodeToString(u.parts[i][:])
	number := int32(i + 1)
	part := types.CompletedPart{PartNumber: &number, ChecksumSHA256: &checksum}
	err = cloud.Retry(ctx, u.o.Retry, func(ctx context.Context) error {
		out, err := u.to.Client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &u.to.Bucket, Key: &u.to.Key, UploadId: id, PartNumber: &number, Body: bytes.NewReader(buffer), ContentLength: aws.Int64(int64(len(buffer))), ChecksumSHA256: &checksum,
		})
		if err != nil {
			return err
		}
		part.ETag = out.ETag
		return nil
	})
	if err == nil && u.o.Progress != nil {
		u.progress(int64(len(buffer)))
	}
	return part, err
}

// progress adds what a part brought.
func (u *upload) progress(n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent += n
	u.o.Progress(u.sent, u.size)
}
