package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/assemble"
)

func newPackageSign() *cobra.Command {
	c := &cobra.Command{
		Use:   "sign FILE --key PEM",
		Short: "Sign a package, with a key or with a certificate",
		Long: `Sign the package FILE with an EC private key (P-256, P-384 or P-521) in PEM,
alone or with certificates that vouch for it. The signature is one of the
OpenSSF Model Signing specification, over every file in the package, and is put
into it: FILE is replaced, unless -o names another. Its digest stays the same.

--bundle takes a signature that was made elsewhere over the unpacked package, as
with "model_signing sign pkcs11-key" for a key in hardware. It must be over
these files; who made it is for the host to judge.`,
		Example: `  openssl ecparam -name prime256v1 -genkey -noout -out key.pem
  openssl pkey -in key.pem -pubout -out public.pem
  picket package sign fraud-3.tar.gz --key key.pem
  picket package sign fraud-3.tar.gz --key key.pem --certificate-chain chain.pem`,
		Args: cobra.ExactArgs(1),
	}
	var o assemble.SignOptions
	c.Flags().StringVar(&o.Key, "key", "", "the `PEM` file of the private key")
	c.Flags().StringArrayVar(&o.Certificates, "certificate-chain", nil, "a `PEM` file of certificates, that of the key among them; may be repeated")
	c.Flags().StringVar(&o.Bundle, "bundle", "", "the `FILE` with a signature that was made elsewhere")
	c.Flags().StringVarP(&o.Out, "output", "o", "", "the `FILE` to write instead")
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		if (o.Key == "") == (o.Bundle == "") {
			return usage("say who signs: give --key PEM, or --bundle FILE for a signature made elsewhere")
		}
		if o.Key == "" && len(o.Certificates) > 0 {
			return usage("--certificate-chain needs --key")
		}
		ctx, stop := interruptible(c)
		defer stop()
		o.File = args[0]
		s, err := assemble.Sign(ctx, o)
		if err != nil {
			return interrupted(ctx, fmt.Errorf("signing %s: %w", args[0], err), "signing "+args[0], "nothing was changed")
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), s)
		}
		fmt.Fprintf(c.OutOrStdout(), "signed %s\n  digest   %s\n  signer   %s\n", s.File, s.Digest, s.Signer)
		return nil
	})
	return c
}
