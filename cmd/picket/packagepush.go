package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/cloud"
	"github.com/picket-ml/picket/internal/transfer"
	"github.com/picket-ml/picket/packaging"
)

// pushed is what `picket package push --json` prints.
type pushed struct {
	File      string `json:"file"`
	URL       string `json:"url"`
	Name      string `json:"name"`
	Version   string `json:"version"`
	Digest    string `json:"digest"` // of the package
	SHA256    string `json:"sha256"` // of the file
	Bytes     int64  `json:"bytes"`
	Signed    bool   `json:"signed"`
	Unchanged bool   `json:"unchanged"` // it was there already
}

func newPackagePush() *cobra.Command {
	c := &cobra.Command{
		Use:   "push FILE s3://BUCKET/PREFIX",
		Short: "Store a package in a bucket",
		Long: `Store the package FILE in a bucket of S3, or of another store that speaks like
it, as PREFIX/NAME-VERSION.tar.gz, whatever FILE is called. A version is never
overwritten: if the very bytes are there already then that is success, and other
bytes are refused. A line that is down is waited for (--patience).

Credentials come from where the AWS command line has them, or from
aws.role_alias of --config.`,
		Example: `  picket package push fraud-3.tar.gz s3://bank-models/packages
  picket package push fraud-3.tar.gz s3://models --path-style \
    --endpoint-url https://s3.bank.example`,
		Args: cobra.ExactArgs(2),
	}
	flags := addCloudFlags(c)
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		bucket, prefix, err := cloud.ParseS3(args[1])
		if err != nil {
			return usage("%v", err)
		}
		p, err := push(c, flags, args[0], bucket, prefix)
		if err != nil {
			return cloudFailure(fmt.Errorf("pushing %s to s3://%s: %w", args[0], bucket, err))
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), p)
		}
		verb := "pushed"
		if p.Unchanged {
			verb = "already there with the same bytes:"
		}
		fmt.Fprintf(c.OutOrStdout(), "%s %s, %s of version %s: %d bytes\n  digest   %s\n  sha256   %s\n", verb, p.URL, p.Name, p.Version, p.Bytes, p.Digest, p.SHA256)
		if !p.Signed {
			fmt.Fprintln(c.OutOrStdout(), "  signed   by nobody: hosts will refuse it until it is signed, which makes another file of it")
		}
		return nil
	})
	return c
}

func push(c *cobra.Command, flags *cloudFlags, path, bucket, prefix string) (p pushed, err error) {
	conf, err := flags.load()
	if err != nil {
		return p, err
	}
	ctx, stop := interruptible(c)
	defer stop()
	file, err := os.Open(path)
	if err != nil {
		return p, fileError(err)
	}
	defer file.Close()
	a, err := packaging.Open(ctx, file)
	if err != nil {
		return p, err
	}
	defer a.Close()
	p = pushed{File: path, Name: a.Manifest.Name, Version: a.Manifest.Version, Digest: a.Digest(), Signed: a.Bundle != nil}
	client, err := conf.AWS.S3(ctx)
	if err != nil {
		return p, err
	}
	name := packaging.FileName(p.Name, p.Version)
	to := transfer.Object{Client: client, Bucket: bucket, Key: under(prefix, name)}
	p.URL = to.String()
	bar := newTransferBar(c, name)
	defer bar.end()
	done, err := transfer.Push(ctx, file, to, transfer.PushOptions{
		Retry: flags.policy(bar), Progress: bar.step, Metadata: map[string]string{"picket-package": p.Digest},
	})
	if ctx.Err() != nil && err != nil {
		return p, errors.New("interrupted; nothing was stored")
	}
	if errors.Is(err, transfer.ErrExists) {
		return p, fmt.Errorf("%s: %w; build it as another version", name, err)
	}
	p.SHA256, p.Bytes, p.Unchanged = done.SHA256, done.Bytes, done.Unchanged
	return p, err
}

// under puts a file's name below a prefix.
func under(prefix, name string) string {
	if prefix = strings.TrimRight(prefix, "/"); prefix == "" {
		return name
	}
	return prefix + "/" + name
}
