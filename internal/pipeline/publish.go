package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/picket-ml/picket/internal/assemble"
	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/transfer"
	"github.com/picket-ml/picket/packaging"
	"github.com/picket-ml/picket/packaging/signing"
)

const (
	stepBaseline = "baseline"
	stepPackage  = "package"
	stepSign     = "sign"
	stepPlace    = "place"
	stepPush     = "push"
)

// packed is a package as a file.
type packed struct {
	File   string `json:"file"`
	Digest string `json:"digest"` // the package's
	SHA256 string `json:"sha256"` // the file's
	Signer string `json:"signer,omitempty"`
	// Left are the variants that could not be asked here, with the reason.
	Left []string `json:"left,omitempty"`
}

// whole tells whether the file is the one on record.
func (p *packed) whole(ctx context.Context) bool {
	digest, err := digestFile(ctx, p.File)
	return err == nil && digest == p.SHA256
}

// publish packs the builds, signs the package, and puts it where hosts find it.
func (r *run) publish(ctx context.Context, builds []build, base *baseline) (*Result, error) {
	p, err := r.pack(ctx, builds, base)
	if err != nil {
		return nil, err
	}
	signed, err := r.sign(ctx, p)
	if err != nil {
		return nil, err
	}
	result := &Result{Package: signed.File, Digest: signed.Digest, Signer: signed.Signer}
	if !r.options.Local {
		if result.Object, err = r.push(ctx, signed); err != nil {
			return nil, err
		}
	}
	result.Done = append([]string{}, r.done...)
	return result, nil
}

func (r *run) pack(ctx context.Context, builds []build, base *baseline) (*packed, error) {
	s := r.spec
	from := struct {
		Name, Version string
		Builds        []build
		Needs         []string
		Rows          string
		Warmup        bool
		Baseline      *baseline
	}{Name: s.Name, Version: s.Version, Builds: builds, Warmup: s.Package.Warmup, Baseline: base}
	for _, b := range builds {
		from.Needs = append(from.Needs, b.needs)
	}
	if s.Package.Rows != "" {
		digest, err := digestFile(ctx, s.Package.Rows)
		if err != nil {
			return nil, fmt.Errorf("reading the warm-up rows: %w", err)
		}
		from.Rows = digest
	}
	p := &packed{}
	return p, r.step(ctx, stepPackage, from, p, func() bool { return p.whole(ctx) }, func(ctx context.Context, _ *record) error {
		*p = packed{File: r.path("unsigned", packaging.FileName(s.Name, s.Version))}
		if err := os.MkdirAll(filepath.Dir(p.File), 0o755); err != nil {
			return fmt.Errorf("making a folder: %w", err)
		}
		o := packaging.BuildOptions{Name: s.Name, Version: s.Version, Out: p.File, Force: true}
		var err error
		if o.Variants, err = r.variants(builds); err != nil {
			return err
		}
		if o.Baseline, err = base.packed(r); err != nil {
			return err
		}
		if s.Package.Warmup {
			if err := r.ask(ctx, &o, p); err != nil {
				return err
			}
		}
		built, err := packaging.Build(ctx, o)
		if err != nil {
			return err
		}
		p.Digest = built.Digest
		p.SHA256, err = digestFile(ctx, p.File)
		return err
	})
}

// ask has the variants answer the warm-up rows.
func (r *run) ask(ctx context.Context, o *packaging.BuildOptions, p *packed) error {
	if r.host == nil {
		options, err := hw.OptionsFromEnv(os.Getenv)
		if err != nil {
			return fmt.Errorf("reading the environment: %w", err)
		}
		r.host = hw.Detect(ctx, options)
	}
	answers, err := assemble.Ask(ctx, r.host, o.Variants, r.spec.Package.Rows)
	if errors.Is(err, assemble.ErrCannotRun) {
		return fmt.Errorf("%w: %s; add a target of this host, run the pipeline on a host that can, or give package.warmup: false", err, strings.Join(answers.Left, "; "))
	}
	if err != nil {
		return err
	}
	o.Signature, o.Warmup, o.WarmupRows, p.Left = answers.Signature, answers.Warmup, answers.Rows, answers.Left
	r.tell(stepPackage, Working, fmt.Sprintf("%d warm-up rows, answered by %s", answers.Rows, strings.Join(answers.Ran, ", ")))
	for _, left := range answers.Left {
		r.tell(stepPackage, Working, "not asked: "+left)
	}
	return nil
}

// sign signs the package into the folder that the file names; without a key it is copied there.
func (r *run) sign(ctx context.Context, p *packed) (*packed, error) {
	s := r.spec
	to := filepath.Join(s.Package.Directory, packaging.FileName(s.Name, s.Version))
	step, from := stepPlace, map[string]any{"package": p.SHA256, "to": to}
	if s.Sign.Key != "" {
		step = stepSign
		who, err := signer(&s.Sign)
		if err != nil {
			return nil, err
		}
		from["signer"] = who
	}
	var before packed
	if rec := r.journal.step(step); rec != nil {
		_ = json.Unmarshal(rec.Result, &before) // nothing is known of before, then
	}
	out := &packed{}
	return out, r.step(ctx, step, from, out, func() bool { return out.whole(ctx) }, func(ctx context.Context, _ *record) (err error) {
		if err := os.MkdirAll(s.Package.Directory, 0o755); err != nil {
			return fmt.Errorf("making a folder: %w", err)
		}
		if err := mayReplace(ctx, to, p.Digest, before.Digest); err != nil {
			return err
		}
		*out = packed{File: to, Digest: p.Digest}
		if s.Sign.Key == "" {
			err = copyFile(ctx, p.File, to)
		} else {
			var signed assemble.Signed
			signed, err = assemble.Sign(ctx, assemble.SignOptions{File: p.File, Out: to, Key: s.Sign.Key, Certificates: s.Sign.Certificates, Force: true})
			out.Signer = signed.Signer
		}
		if err != nil {
			return err
		}
		out.SHA256, err = digestFile(ctx, to)
		return err
	})
}

// signer is what the key and the certificates are known by. The private key itself is in no record.
func signer(s *Sign) (string, error) {
	text, err := os.ReadFile(s.Key)
	if err != nil {
		return "", fmt.Errorf("reading the private key: %w", err)
	}
	key, err := signing.ParsePrivateKey(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.Key, err)
	}
	public, err := key.PublicKey.ECDH()
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.Key, err)
	}
	digest := sha256.New()
	digest.Write(public.Bytes())
	for _, path := range s.Certificates {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("reading the certificates: %w", err)
		}
		digest.Write(text)
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// mayReplace refuses to put a package in place of one that is neither the same nor made by this pipeline: hosts may have it,
// and know it by its version.
func mayReplace(ctx context.Context, path string, ours ...string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	a, err := packaging.Open(ctx, f)
	if err == nil {
		defer a.Close()
		for _, digest := range ours {
			if a.Digest() == digest {
				return nil
			}
		}
	}
	return fmt.Errorf("%s is there already, and is another package: raise the version, or move the file away", path)
}

// copyFile writes a copy of a file: the whole, or nothing.
func copyFile(ctx context.Context, from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return durable.Replace(to, 0o644, func(out *os.File) error {
		_, err := io.Copy(out, contextReader{ctx, in})
		return err
	})
}

// push puts the package into the bucket, where a version is never overwritten.
func (r *run) push(ctx context.Context, p *packed) (string, error) {
	to, err := r.spec.packages()
	if err != nil {
		return "", err
	}
	object := to.below(filepath.Base(p.File))
	var pushed struct {
		Object string `json:"object"`
	}
	err = r.step(ctx, stepPush, map[string]string{"to": object.String(), "sha256": p.SHA256}, &pushed, nil, func(ctx context.Context, _ *record) error {
		info, err := os.Stat(p.File)
		if err != nil {
			return err
		}
		f := file{Path: filepath.Base(p.File), Size: info.Size(), SHA256: p.SHA256, from: p.File}
		pushed.Object = object.String()
		err = r.store(ctx, stepPush, f, object)
		if errors.Is(err, transfer.ErrExists) {
			return fmt.Errorf("%w: raise the version", err)
		}
		return err
	})
	return object.String(), err
}

// packages is where packages are pushed to.
func (s *Spec) packages() (location, error) {
	if s.Bucket.Packages == "" {
		return location{bucket: s.Bucket.Name}.below(s.Bucket.Prefix, "packages"), nil
	}
	return parseLocation(s.Bucket.Packages)
}
