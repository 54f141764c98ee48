package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/picket-ml/picket/internal/cloud"
	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/transfer"
)

// location is an object, or the prefix of some.
type location struct{ bucket, key string }

func (l location) String() string { return "s3://" + l.bucket + "/" + l.key }

// below is an object or prefix under l.
func (l location) below(parts ...string) location {
	l.key = strings.Trim(strings.Join(append([]string{strings.TrimSuffix(l.key, "/")}, parts...), "/"), "/")
	return l
}

func (l location) object(client *s3.Client) transfer.Object {
	return transfer.Object{Client: client, Bucket: l.bucket, Key: l.key}
}

// parseLocation reads s3://BUCKET/KEY.
func parseLocation(uri string) (location, error) {
	name, key, err := cloud.ParseS3(uri)
	return location{name, key}, err
}

// connect opens the way to AWS. The caller closes its connections, which would stay for a while otherwise.
func (r *run) connect(ctx context.Context) (disconnect func(), err error) {
	config, err := r.spec.AWS.Config(ctx)
	if err != nil {
		return nil, err
	}
	disconnect = func() {}
	if pooled, ok := config.HTTPClient.(interface{ CloseIdleConnections() }); ok {
		disconnect = pooled.CloseIdleConnections
	}
	r.client = r.spec.AWS.Client(config)
	r.service = newService(config, r.spec.SageMaker.Endpoint)
	return disconnect, nil
}

// store makes f an object, unless it is there; then it must have the same bytes, or the error is transfer.ErrExists.
func (r *run) store(ctx context.Context, step string, f file, to location) error {
	doing := "storing " + f.Path + " as " + to.String()
	opened, err := os.Open(f.from)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer opened.Close()
	pushed, err := transfer.Push(ctx, opened, to.object(r.client), transfer.PushOptions{
		Retry:    r.policy(step, doing),
		Progress: func(done, total int64) { r.tell(step, Working, fmt.Sprintf("%s: %d of %d bytes", f.Path, done, total)) },
	})
	if err = away(ctx, doing, err); err != nil {
		return err
	}
	if pushed.SHA256 != f.SHA256 {
		return fmt.Errorf("%s: it was changed meanwhile; run again when it is complete", doing)
	}
	return nil
}

// storeBytes is store for what is no file yet.
func (r *run) storeBytes(ctx context.Context, step, name string, data []byte, to location) error {
	if err := durable.WriteFileIn(r.journal.root, name, data, 0o644); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	f := file{Path: name, from: r.path(name)}
	if err := f.takeDigest(ctx, nil); err != nil {
		return err
	}
	return r.store(ctx, step, f, to)
}

// stored tells whether there is such an object. It asks once.
func (r *run) stored(ctx context.Context, at location) (bool, error) {
	_, _, err := at.object(r.client).Describe(ctx, "")
	if cloud.NotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// maxArchive is what a pipeline takes from a bucket.
const maxArchive = 16 << 30

// fetch takes an object into a folder of the run's own, and gives the file. What has come of it stays there until the file is
// whole, for the next try, of another run too.
func (r *run) fetch(ctx context.Context, step string, from location, folder string) (string, error) {
	doing := "fetching " + from.String()
	dir := r.path(folder)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	defer root.Close()
	object := from.object(r.client)
	err = cloud.Retry(ctx, r.policy(step, doing), func(ctx context.Context) error {
		d, _, err := object.Describe(ctx, "")
		if err == nil && d.Size > maxArchive {
			err = fmt.Errorf("it has %d bytes, more than %d", d.Size, int64(maxArchive))
		}
		return err
	})
	if err == nil {
		_, err = transfer.Pull(ctx, object, root, archiveName, transfer.PullOptions{
			Retry: r.policy(step, doing), Replace: true,
			Progress: func(done, total int64) { r.tell(step, Working, fmt.Sprintf("%d of %d bytes", done, total)) },
		})
	}
	return filepath.Join(dir, archiveName), away(ctx, doing, err)
}

const archiveName = "archive.tar.gz"

// away is the error of something that was done over the network.
func away(ctx context.Context, doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted while %s; run again to go on: %w", doing, context.Cause(ctx))
	case errors.As(err, new(*os.PathError)):
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, cloud.Explain(err))
}
