package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/cloud"
	"github.com/picket-ml/picket/internal/monitor"
)

// dataFlags adds the flags that say how S3 is reached, and returns what finds the files
// of data that an argument names.
func dataFlags(c *cobra.Command) func(context.Context, string) ([]monitor.File, error) {
	o := &cloud.Options{}
	o.AddFlags(c.Flags())
	return func(ctx context.Context, where string) ([]monitor.File, error) {
		if !strings.HasPrefix(where, "s3://") {
			return monitor.LocalFiles(where)
		}
		bucket, prefix, err := cloud.ParseS3(where)
		if err != nil {
			return nil, usage("%v", err)
		}
		client, err := o.S3(ctx)
		if err != nil {
			return nil, err
		}
		return objects(ctx, client, bucket, prefix)
	}
}

// objects are the objects of data below a prefix, in the order of their keys.
func objects(ctx context.Context, client *s3.Client, bucket, prefix string) ([]monitor.File, error) {
	var files []monitor.File
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String(prefix)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("looking for data in s3://%s/%s: %w", bucket, prefix, cloud.Explain(err))
		}
		for _, object := range page.Contents {
			key := aws.ToString(object.Key)
			if !monitor.IsData(key) {
				continue
			}
			files = append(files, monitor.File{Name: "s3://" + bucket + "/" + key, Open: func(ctx context.Context) (io.ReadCloser, error) {
				got, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
				if err != nil {
					return nil, cloud.Explain(err)
				}
				return got.Body, nil
			}})
		}
		if len(files) > monitor.MaxFiles {
			return nil, fmt.Errorf("below s3://%s/%s there are more than %d objects of data; give a longer prefix", bucket, prefix, monitor.MaxFiles)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("below s3://%s/%s there is no object of data: none ends in .jsonl, .csv or .parquet", bucket, prefix)
	}
	return files, nil
}
