package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/cloud"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/store"
	"github.com/picket-ml/picket/internal/transfer"
	"github.com/picket-ml/picket/packaging"
)

// pulled is what `picket package pull --json` prints.
type pulled struct {
	URL     string `json:"url"`
	File    string `json:"file"`
	Name    string `json:"name"`
	Version string `json:"version"`
	Bytes   int64  `json:"bytes"`
	// Transferred came this time, Resumed was here from an earlier try.
	Transferred int64  `json:"transferred"`
	Resumed     int64  `json:"resumed"`
	SHA256      string `json:"sha256"`
	// Confirmed tells that the store knows the same digest.
	Confirmed bool    `json:"confirmed"`
	Signer    *signer `json:"signer"` // null where no trust was given, or the file was here already
	Unchanged bool    `json:"unchanged"`
}

// pullFlags are those of its own.
type pullFlags struct {
	*cloudFlags
	from, to string
	replace  bool
}

func newPackagePull() *cobra.Command {
	c := &cobra.Command{
		Use:   "pull (s3://BUCKET/KEY | NAME | NAME@VERSION)",
		Short: "Fetch a package from a bucket",
		Long: `Fetch a package from a bucket of S3, or of a store that speaks like it, into the
folder --to, or that of the daemon's packages (--config), from where picket load
NAME loads it. NAME alone is the highest version there is.

What is here already is not fetched again, and a download that broke off goes on
where it was, in this call or the next. The file appears under its name when all
of it is there and its digest is the one that was pushed; and, where --config
has a section trust, when somebody signed it who may. Until then nothing changes
for a daemon that serves an older one.`,
		Example: `  picket package pull s3://bank-models/packages/fraud-3.tar.gz --to packages
  picket package pull fraud@3 --config /etc/picket/picketd.yaml
  picket package pull fraud --from s3://bank-models/packages`,
		Args: cobra.ExactArgs(1),
	}
	flags := &pullFlags{cloudFlags: addCloudFlags(c)}
	c.Flags().StringVar(&flags.from, "from", "", "where packages are found by name, `s3://BUCKET/PREFIX`; else packages_from of --config")
	c.Flags().StringVar(&flags.to, "to", "", "the folder to put it in, `DIR`; else packages of --config, else this one")
	c.Flags().BoolVar(&flags.replace, "replace", false, "replace a file of that name that is another one")
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		p, err := pull(c, flags, args[0])
		if err != nil {
			return cloudFailure(fmt.Errorf("pulling %s: %w", args[0], err))
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), p)
		}
		if p.Unchanged {
			fmt.Fprintf(c.OutOrStdout(), "%s is up to date: it has the bytes of %s\n", p.File, p.URL)
			return nil
		}
		fmt.Fprintf(c.OutOrStdout(), "pulled %s to %s: %d bytes", p.URL, p.File, p.Bytes)
		if p.Resumed > 0 {
			fmt.Fprintf(c.OutOrStdout(), ", %d of them by an earlier try", p.Resumed)
		}
		confirmed := ", as pushed"
		if !p.Confirmed {
			confirmed = ", which the store cannot confirm"
		}
		fmt.Fprintf(c.OutOrStdout(), "\n  sha256   %s%s\n", p.SHA256, confirmed)
		if p.Signer != nil {
			fmt.Fprintf(c.OutOrStdout(), "  signer   %s\n", p.Signer)
		}
		return nil
	})
	return c
}

func pull(c *cobra.Command, flags *pullFlags, what string) (p pulled, err error) {
	conf, err := flags.load()
	if err != nil {
		return p, err
	}
	ctx, stop := interruptible(c)
	defer stop()
	client, err := conf.AWS.S3(ctx)
	if err != nil {
		return p, err
	}
	bar := newTransferBar(c, what)
	defer bar.end()
	object := transfer.Object{Client: client}
	object.Bucket, object.Key, err = flags.find(ctx, object, what, cmp.Or(flags.from, conf.PackagesFrom), flags.policy(bar))
	switch {
	case err != nil && ctx.Err() != nil:
		return p, errors.New("interrupted; nothing was fetched")
	case err != nil:
		return p, err
	}
	file := path.Base(object.Key)
	bar.what = file
	p.URL = object.String()
	p.Name, p.Version, _ = packaging.SplitFileName(file)

	dir := cmp.Or(flags.to, conf.Packages, ".")
	root, err := os.OpenRoot(dir)
	if err != nil {
		return p, fmt.Errorf("opening the folder %s: %w", dir, fileError(err))
	}
	defer root.Close()
	p.File = filepath.Join(dir, file)
	check, err := trustCheck(ctx, conf.Trust, &p)
	if err != nil {
		return p, err
	}
	done, err := transfer.Pull(ctx, object, root, file, transfer.PullOptions{Retry: flags.policy(bar), Progress: bar.step, Check: check, Replace: flags.replace})
	p.Bytes, p.Transferred, p.Resumed, p.SHA256, p.Confirmed, p.Unchanged = done.Bytes, done.Transferred, done.Resumed, done.SHA256, done.Confirmed, done.Unchanged
	switch {
	case err != nil && ctx.Err() != nil:
		return p, errors.New("interrupted; what came is kept, and the next pull goes on from there")
	case errors.Is(err, transfer.ErrOther):
		return p, fmt.Errorf("%s: %w, or give --replace", p.File, err)
	}
	return p, err
}

// find says where what was asked for is.
func (f *pullFlags) find(ctx context.Context, store transfer.Object, what, from string, retry cloud.Policy) (bucket, key string, err error) {
	if strings.Contains(what, "://") {
		bucket, key, err = cloud.ParseS3(what)
		if err == nil && (key == "" || strings.HasSuffix(key, "/")) {
			err = fmt.Errorf("it names no object; picket package pull NAME --from %s fetches the highest version of a package there", what)
		}
		if err != nil {
			return "", "", usage("%v", err)
		}
		return bucket, key, nil
	}
	name, version, exact := strings.Cut(what, "@")
	if err := packaging.CheckName(name); err != nil {
		return "", "", usage("%q is neither an object, s3://BUCKET/KEY, nor a package, NAME or NAME@VERSION", what)
	}
	if from == "" {
		return "", "", usage("say where packages are found by name: give --from s3://BUCKET/PREFIX, or --config with packages_from")
	}
	bucket, prefix, err := cloud.ParseS3(from)
	if err != nil {
		return "", "", usage("%v", err)
	}
	if exact {
		if err := packaging.CheckVersion(version); err != nil {
			return "", "", usage("%v", err)
		}
		return bucket, under(prefix, packaging.FileName(name, version)), nil
	}
	highest, found := "", false
	err = cloud.Retry(ctx, retry, func(ctx context.Context) error {
		return transfer.List(ctx, store.Client, bucket, under(prefix, name+"-"), func(key string) bool {
			n, v, ok := packaging.SplitFileName(path.Base(key))
			if ok && n == name && (!found || packaging.CompareVersions(v, version) > 0) {
				highest, version, found = key, v, true
			}
			return true
		})
	})
	if err != nil {
		return "", "", err
	}
	if !found {
		return "", "", fmt.Errorf("there is no version of it in %s", from)
	}
	return bucket, highest, nil
}

// trustCheck is what agrees to a package, once it is there; nil where nobody is configured to be trusted. The daemon
// judges it again before it loads it, and knows more: what ran before.
func trustCheck(ctx context.Context, c config.Trust, p *pulled) (func(*os.File) error, error) {
	if !c.Configured() {
		return nil, nil
	}
	trust, err := store.NewTrust(trustOptions(c))
	if err != nil {
		return nil, err
	}
	return func(f *os.File) error {
		a, err := packaging.Open(ctx, f)
		if errors.Is(err, packaging.ErrForeign) {
			return nil // of the old service: the daemon accepts it by its digest or not at all
		}
		if err != nil {
			return err
		}
		defer a.Close()
		if name := packaging.FileName(a.Manifest.Name, a.Manifest.Version); name != path.Base(p.URL) {
			return fmt.Errorf("the object holds %s, and its name must say so; nothing of it is kept", name)
		}
		s, err := trust.Judge(a, time.Now(), time.Time{})
		if err != nil {
			return &failure{exitPolicy, fmt.Errorf("%w; nothing of it is kept", err)}
		}
		p.Signer = signerOf(s.Signer)
		return nil
	}, nil
}
