package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/store"
	"github.com/picket-ml/picket/packaging/signing"
)

// verified is what `picket package verify --json` prints, also of a package that is refused.
type verified struct {
	File   string `json:"file"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason"` // why not, in a sentence
	// The rest is empty where it was not found out.
	Name    string  `json:"name"`
	Version string  `json:"version"`
	Digest  string  `json:"digest"`
	Signer  *signer `json:"signer"`
	Files   int     `json:"files"`
	Bytes   int64   `json:"bytes"`
}

type signer struct {
	Key          string   `json:"key"` // the SHA-256 of its public PEM text
	Subject      string   `json:"subject,omitempty"`
	Certificates []string `json:"certificates,omitempty"` // SHA-256, that of the signer first
	NotAfter     string   `json:"not_after,omitempty"`
}

func newPackageVerify() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify FILE (--key PEM | --root PEM --name NAME | --trust CONFIG)",
		Short: "Verify a package: its signature, and every file in it",
		Long: `Verify the package FILE, or the folder that one was unpacked to: that somebody
signed it who may, and that every file in it is the one that was signed. Who may
is said by --key and --root, or by the trust section of a daemon's
configuration.

What a host remembers, which older packages are refused by, only its daemon
knows.

Exit code 4 says that the package is not to be trusted, 1 that it could not be
looked at.`,
		Example: `  picket package verify fraud-3.tar.gz --key public.pem
  picket package verify fraud-3.tar.gz --root root.pem --name "Model signing"
  picket package verify fraud-3.tar.gz --trust /etc/picket/picketd.yaml --json`,
		Args: cobra.ExactArgs(1),
	}
	signers := addTrustFlags(c)
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		trust, err := signers.trust()
		if err != nil {
			return err
		}
		v, err := verify(c, trust, args[0])
		if err == nil {
			v.OK = true
			if *asJSON {
				return writeJSON(c.OutOrStdout(), v)
			}
			fmt.Fprintf(c.OutOrStdout(), "verified %s, %s of version %s: %d files, %d bytes\n  digest   %s\n  signer   %s\n",
				v.File, v.Name, v.Version, v.Files, v.Bytes, v.Digest, v.Signer)
			return nil
		}
		err = fmt.Errorf("verifying %s: %w", args[0], err)
		if errors.As(err, new(*fs.PathError)) || errors.As(err, new(syscall.Errno)) || errors.Is(err, errNotLookedAt) {
			return err
		}
		if *asJSON {
			v.Reason = err.Error()
			if err := writeJSON(c.OutOrStdout(), v); err != nil {
				return err
			}
		}
		return &failure{exitPolicy, err}
	})
	return c
}

// String names the signer for people.
func (s *signer) String() string {
	if s.Subject == "" {
		return "key sha256:" + s.Key
	}
	return fmt.Sprintf("%s, certificate sha256:%s, valid until %s", s.Subject, s.Certificates[0], s.NotAfter)
}

// trustFlags say who may sign.
type trustFlags struct {
	o    store.TrustOptions
	file string
}

func addTrustFlags(c *cobra.Command) *trustFlags {
	t := new(trustFlags)
	c.Flags().StringArrayVar(&t.o.Keys, "key", nil, "a `PEM` file of public keys that may sign; may be repeated")
	c.Flags().StringArrayVar(&t.o.Roots, "root", nil, "a `PEM` file of certificates that vouch for others; may be repeated")
	c.Flags().StringArrayVar(&t.o.Names, "name", nil, "a `NAME` that a certificate may have: common name, subject, DNS, mail or URI; * for any; may be repeated")
	c.Flags().StringVar(&t.o.RevokedFile, "revoked", "", "a `FILE` that lists what is trusted no longer")
	c.Flags().StringVar(&t.file, "trust", "", "the daemon's configuration `FILE` that says who may sign")
	return t
}

// given tells whether any flag was.
func (t *trustFlags) given() bool {
	return t.file != "" || t.o.RevokedFile != "" || len(t.o.Keys)+len(t.o.Roots)+len(t.o.Names) > 0
}

func (t *trustFlags) trust() (*store.Trust, error) {
	own := len(t.o.Keys)+len(t.o.Roots) > 0
	switch {
	case own == (t.file != ""):
		return nil, usage("say who may sign: give --key or --root, or --trust CONFIG")
	case !own && (t.o.RevokedFile != "" || len(t.o.Names) > 0):
		return nil, usage("--trust says all of it; --name and --revoked belong to --key and --root")
	case len(t.o.Roots) > 0 && len(t.o.Names) == 0:
		return nil, usage("--root needs --name: say whom the root may vouch for, or --name '*' for everybody")
	}
	return trustOf(t.o, t.file)
}

// trustOf reads whom to trust, from the flags or from a configuration.
func trustOf(o store.TrustOptions, file string) (*store.Trust, error) {
	if file != "" {
		c, err := readDaemonConfig(file, "")
		if err != nil {
			return nil, err
		}
		if !c.Trust.Configured() {
			return nil, wrongConfig(fmt.Errorf("%s trusts nobody: it names neither keys nor roots under trust", file))
		}
		o = trustOptions(c.Trust)
	}
	return store.NewTrust(o)
}

func trustOptions(t config.Trust) store.TrustOptions {
	return store.TrustOptions{Keys: t.Keys, Roots: t.Roots, Names: t.Names, RevokedFile: t.Revoked, OldPackages: t.Packages, Rollback: t.Rollback, Expired: t.Expired}
}

// errNotLookedAt is of a package of which it was not found out whether it is to be trusted.
var errNotLookedAt = errors.New("interrupted; it is neither trusted nor refused")

// verify gives what was found out, also with an error.
func verify(c *cobra.Command, trust *store.Trust, path string) (verified, error) {
	v := verified{File: path}
	ctx, stop := interruptible(c)
	defer stop()
	p, err := openPackage(c, path)
	if err != nil {
		return v, err
	}
	defer p.close()
	v.Name, v.Version, v.Digest = p.Manifest.Name, p.Manifest.Version, p.Digest()
	s, err := trust.Judge(p.Archive, time.Now(), time.Time{})
	if err != nil {
		return v, err
	}
	v.Signer = signerOf(s.Signer)
	if err := p.Unpack(ctx, nil); ctx.Err() != nil && err != nil {
		return v, errNotLookedAt
	} else if err != nil {
		return v, err
	}
	summary := summaryOf(path, p.Manifest, v.Digest)
	v.Files, v.Bytes = len(summary.Files), summary.bytes()
	return v, nil
}

func signerOf(s signing.Signer) *signer {
	out := &signer{Key: s.Key, Subject: s.Subject, Certificates: s.Certificates}
	if !s.NotAfter.IsZero() {
		out.NotAfter = s.NotAfter.UTC().Format(time.RFC3339)
	}
	return out
}
