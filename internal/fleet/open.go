package fleet

import (
	"context"
	"strings"

	"github.com/picket-ml/picket/internal/cloud"
)

// Open opens a fleet's place, s3://BUCKET/PREFIX or file:///FOLDER. Nobody is asked yet.
func Open(ctx context.Context, place string, o cloud.Options) (Bucket, error) {
	if folder, local := strings.CutPrefix(place, "file://"); local {
		return NewFolder(folder)
	}
	bucket, prefix, err := cloud.ParseS3(place)
	if err != nil {
		return nil, err
	}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	cfg, err := o.Config(ctx)
	if err != nil {
		return nil, err
	}
	return &S3{o.Client(cfg), bucket, prefix}, nil
}
