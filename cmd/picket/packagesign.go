package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/packaging"
	"github.com/picket-ml/picket/packaging/signing"
)

// signed is what `picket package sign --json` prints.
type signed struct {
	File   string `json:"file"`
	Digest string `json:"digest"`
	Signer string `json:"signer"`
}

// signOptions are the flags of `picket package sign`.
type signOptions struct {
	key, bundle, out string
	certificates     []string
}

func newPackageSign() *cobra.Command {
	c := &cobra.Command{
		Use:   "sign FILE --key PEM",
		Short: "Sign a package, with a key or with a certificate",
		Long: `Sign the package FILE with an EC private key (P-256, P-384 or P-521) in PEM, alone
or with certificates that vouch for it. The signature is one of the OpenSSF Model
Signing specification, over every file in the package, and is put into it: FILE is
replaced, unless -o names another. Its digest stays the same.

--bundle takes a signature that was made elsewhere over the unpacked package, as
with "model_signing sign pkcs11-key" for a key in hardware. It must be over these
files; who made it is for the host to judge.`,
		Example: `  openssl ecparam -name prime256v1 -genkey -noout -out key.pem
  openssl pkey -in key.pem -pubout -out public.pem
  picket package sign fraud-3.tar.gz --key key.pem
  picket package sign fraud-3.tar.gz --key key.pem --certificate-chain chain.pem`,
		Args: cobra.ExactArgs(1),
	}
	var o signOptions
	c.Flags().StringVar(&o.key, "key", "", "the `PEM` file of the private key")
	c.Flags().StringArrayVar(&o.certificates, "certificate-chain", nil, "a `PEM` file of certificates, that of the key among them; may be repeated")
	c.Flags().StringVar(&o.bundle, "bundle", "", "the `FILE` with a signature that was made elsewhere")
	c.Flags().StringVarP(&o.out, "output", "o", "", "the `FILE` to write instead")
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		if (o.key == "") == (o.bundle == "") {
			return usage("say who signs: give --key PEM, or --bundle FILE for a signature made elsewhere")
		}
		if o.key == "" && len(o.certificates) > 0 {
			return usage("--certificate-chain needs --key")
		}
		s, err := sign(c, args[0], o)
		if err != nil {
			return fmt.Errorf("signing %s: %w", args[0], err)
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), s)
		}
		fmt.Fprintf(c.OutOrStdout(), "signed %s\n  digest   %s\n  signer   %s\n", s.File, s.Digest, s.Signer)
		return nil
	})
	return c
}

func sign(c *cobra.Command, path string, o signOptions) (s signed, err error) {
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	f, err := os.Open(path)
	if err != nil {
		return s, fileError(err)
	}
	defer f.Close()
	a, err := packaging.Open(ctx, f)
	if err != nil {
		return s, err
	}
	_ = a.Close() // the manifest was read, and says what to sign
	files := signing.FilesOf(a.ManifestBytes, a.Manifest)
	var bundle []byte
	if o.bundle != "" {
		bundle, err = takeBundle(o.bundle, files)
	} else {
		bundle, err = makeBundle(a.Manifest, files, o)
	}
	if err != nil {
		return s, err
	}
	if s.Signer, err = signing.Claim(bundle); err != nil {
		return s, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return s, fileError(err)
	}
	s.File, s.Digest = path, a.Digest()
	replace := o.out == ""
	if !replace {
		s.File = o.out
	}
	// Every file is compared with the manifest on the way, so that nothing is signed that nobody has looked at.
	return s, packaging.Attach(ctx, f, s.File, replace, bundle)
}

func makeBundle(m *packaging.Manifest, files map[string]string, o signOptions) ([]byte, error) {
	text, err := readText(o.key)
	if err != nil {
		return nil, fmt.Errorf("reading the private key: %w", err)
	}
	key, err := signing.ParsePrivateKey(text)
	if err != nil {
		return nil, err
	}
	var certificates []*x509.Certificate
	for _, path := range o.certificates {
		text, err := readText(path)
		if err != nil {
			return nil, fmt.Errorf("reading the certificates %s: %w", path, err)
		}
		more, err := signing.ParseCertificates(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		certificates = append(certificates, more...)
	}
	return signing.Sign(m.Name+"-"+m.Version, files, key, certificates)
}

// takeBundle reads a signature and makes sure that it is over these files.
func takeBundle(path string, files map[string]string) ([]byte, error) {
	bundle, err := readText(path)
	if err != nil {
		return nil, fmt.Errorf("reading the signature: %w", err)
	}
	claimed, err := signing.ClaimedFiles(bundle)
	if err != nil {
		return nil, err
	}
	return bundle, claimed.Match(files)
}

// readText reads a small file: a key, certificates, a signature.
func readText(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, packaging.MaxSignatureBytes+1))
	if err == nil && len(data) > packaging.MaxSignatureBytes {
		err = errors.New("it is far too large; is it the right file?")
	}
	return data, err
}
