package main

import (
	"context"
	"crypto/sha1" // the old API of devices has no other; nothing relies on it
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/assemble"
	"github.com/picket-ml/picket/internal/cloud"
	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/packaging"
)

// fleetFlags are those of all commands of a fleet.
type fleetFlags struct {
	place, keys, root string
	aws               cloud.Options
}

func newFleet(getenv func(string) string) *cobra.Command {
	c := &cobra.Command{
		Use:   "fleet",
		Short: "Say what many hosts should serve, and how it gets there",
		Long: `Say what many hosts should serve, and how it gets there: documents in a bucket
that devices follow, signed with keys that are held here. docs/fleet.md shows it
from nothing to a staged rollout and back.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f := &fleetFlags{}
	flags := c.PersistentFlags()
	flags.StringVar(&f.place, "place", getenv("PICKET_FLEET"), "where the fleet lies, `URL`: s3://BUCKET/PREFIX or file:///FOLDER; also $PICKET_FLEET")
	flags.StringVar(&f.keys, "keys", getenv("PICKET_FLEET_KEYS"), "the `FOLDER` of the fleet's keys and its root document; also $PICKET_FLEET_KEYS")
	flags.StringVar(&f.root, "root", "", "the root document, `FILE`; else root.json in the folder of keys")
	f.aws.AddFlags(flags)
	c.AddCommand(newFleetInit(f), newFleetAdd(f), newFleetRemove(f), newFleetRollout(f), newFleetPause(f), newFleetResume(f), newFleetHalt(f), newFleetPin(f),
		newFleetUnpin(f), newFleetStatus(f), newFleetRefresh(f), newFleetRotate(f), newFleetServe(f))
	return c
}

// opened is a fleet that commands work on.
type openedFleet struct {
	bucket fleet.Bucket
	keys   fleet.Keys
	root   []byte
}

func (f *fleetFlags) open(ctx context.Context, needKeys bool) (*openedFleet, error) {
	if f.place == "" {
		return nil, usage("say where the fleet lies: --place s3://BUCKET/PREFIX, or file:///FOLDER")
	}
	if f.keys == "" && (needKeys || f.root == "") {
		return nil, usage("say where the fleet's keys are: --keys FOLDER")
	}
	o := &openedFleet{}
	var err error
	if o.bucket, err = fleet.Open(ctx, f.place, f.aws); err != nil {
		return nil, fmt.Errorf("opening the fleet at %s: %w", f.place, err)
	}
	if needKeys || f.keys != "" {
		if o.keys, err = fleet.ReadKeys(f.keys); err != nil {
			return nil, err
		}
	}
	if o.root, err = assemble.ReadText(f.rootFile()); err != nil {
		return nil, fmt.Errorf("reading the fleet's root document %s: %w", f.rootFile(), err)
	}
	return o, nil
}

func (f *fleetFlags) rootFile() string {
	if f.root != "" {
		return f.root
	}
	return filepath.Join(f.keys, fleet.RootFile)
}

// changing makes the body of a command that changes the documents.
func (f *fleetFlags) changing(body func(ctx context.Context, c *cobra.Command, o *openedFleet, p *fleet.Publisher, args []string) error) func(*cobra.Command, []string) error {
	return doing(func(c *cobra.Command, args []string) error {
		ctx, stop := interruptible(c)
		defer stop()
		o, err := f.open(ctx, true)
		if err != nil {
			return err
		}
		err = body(ctx, c, o, fleet.NewPublisher(o.bucket, o.keys, o.root, nil), args)
		return interrupted(ctx, refusal(err), "changing the fleet", "devices see all of a change or nothing of it: picket fleet status shows which, and the same command may be given again")
	})
}

// refusal gives documents that are not to be trusted their exit code.
func refusal(err error) error {
	if errors.Is(err, fleet.ErrUntrusted) {
		return &failure{exitPolicy, err}
	}
	return err
}

// say prints one line, or the document as JSON.
func say(c *cobra.Command, asJSON bool, document any, format string, args ...any) error {
	if asJSON {
		return writeJSON(c.OutOrStdout(), document)
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), format+"\n", args...)
	return err
}

func newFleetInit(f *fleetFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "init NAME",
		Short: "Begin a fleet: make its keys and its first documents",
		Long: `Begin the fleet NAME: make the keys that the folder --keys does not have yet,
write the first documents to --place, and write root.json beside the keys, which
every device needs.

root.pem, and any other root*.pem, change keys and belong on a disk in a safe.
targets.pem says what runs and belongs to the operator. online.pem says how far
rollouts may go, and belongs to "picket fleet serve". Keys made elsewhere are
taken as they are: Ed25519 or ECDSA, in PEM.`,
		Example: `  picket fleet init pos --place s3://models/fleets/pos --keys ~/pos-keys`,
		Args:    cobra.ExactArgs(1),
	}
	threshold := c.Flags().Int("root-threshold", 1, "how many `ROOT` keys it takes to change the keys")
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		if f.place == "" || f.keys == "" {
			return usage("say where the fleet is to lie and where its keys: --place URL --keys FOLDER")
		}
		ctx, stop := interruptible(c)
		defer stop()
		bucket, err := fleet.Open(ctx, f.place, f.aws)
		if err != nil {
			return fmt.Errorf("opening the fleet at %s: %w", f.place, err)
		}
		if _, err := os.Stat(f.rootFile()); err == nil {
			return fmt.Errorf("beginning the fleet %s: %s is there already; is the fleet begun?", args[0], f.rootFile())
		}
		keys, made, err := fleet.MakeKeys(f.keys)
		if err != nil {
			return err
		}
		root, err := fleet.Init(ctx, bucket, keys, args[0], *threshold, nil)
		if err != nil {
			return interrupted(ctx, err, "beginning the fleet "+args[0], "the keys that were made are kept, and the same command goes on with them")
		}
		if err := durable.WriteFile(f.rootFile(), root, 0o644); err != nil {
			return fmt.Errorf("writing the root document: %w", err)
		}
		return say(c, *asJSON, map[string]any{"fleet": args[0], "place": f.place, "root": f.rootFile(), "made": made},
			"began the fleet %s at %s\n  made     %s\n  devices  need %s\nmove the root keys to a safe place now", args[0], f.place, strings.Join(made, ", "), f.rootFile())
	})
	return c
}

// fleetPackage reads a package's file for the documents, and writes it to the fleet's
// place unless it is there.
func fleetPackage(ctx context.Context, c *cobra.Command, o *openedFleet, path string) (fleet.Package, error) {
	var p fleet.Package
	opened, err := openPackage(c, path)
	if err != nil {
		return p, fmt.Errorf("opening the package %s: %w", path, err)
	}
	defer opened.close()
	if opened.file == nil {
		return p, fmt.Errorf("opening the package %s: it is a folder; a fleet needs the packed file", path)
	}
	if opened.Bundle == nil {
		return p, &failure{exitPolicy, fmt.Errorf("the package %s is not signed, and devices would refuse it: picket package sign it first", path)}
	}
	m := opened.Manifest
	p = fleet.Package{Name: m.Name, Version: m.Version, Digest: opened.Digest()}
	f, err := os.Open(path)
	if err != nil {
		return p, fileError(err)
	}
	defer f.Close()
	long, short := sha256.New(), sha1.New() // as above
	if p.Size, err = io.Copy(io.MultiWriter(long, short), f); err != nil {
		return p, fmt.Errorf("reading the package %s: %w", path, err)
	}
	p.SHA256, p.SHA1 = hex.EncodeToString(long.Sum(nil)), hex.EncodeToString(short.Sum(nil))
	// The digest of the file is in the name: a version that was packed again is another
	// object, and no object is ever written twice.
	p.File = "packages/" + strings.TrimSuffix(packaging.FileName(m.Name, m.Version), ".tar.gz") + "-" + p.SHA256[:16] + ".tar.gz"
	if err := p.Check(); err != nil {
		return p, err
	}
	if err := o.bucket.Upload(ctx, p.File, f); err != nil {
		return p, fmt.Errorf("writing the package to %s: %w", o.bucket.URL(p.File), err)
	}
	return p, nil
}

// newID is one that no other rollout has.
func newID(p fleet.Package) string {
	return fmt.Sprintf("%s-%s-%s", p.Name, strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '.' {
			return r
		}
		return '-'
	}, p.Version), time.Now().UTC().Format("20060102-150405.000"))
}

// groupOf is the document of a group, new where there is none, and its progress.
func groupOf(ctx context.Context, e *fleet.Edit, name string) (*fleet.Group, *fleet.Progress, error) {
	devices, err := e.Reader.Devices(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := fleet.CheckName("group", name); err != nil {
		return nil, nil, err
	}
	g, err := e.Reader.Group(ctx, devices.Fleet, name)
	if errors.Is(err, fleet.ErrAbsent) {
		g, err = &fleet.Group{Fleet: devices.Fleet, Group: name, Models: []fleet.Model{}, Pins: []fleet.Pin{}}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	p, err := e.Reader.Progress(ctx, devices.Fleet, name)
	if err == nil && p == nil {
		p = &fleet.Progress{Fleet: devices.Fleet, Group: name, Rollouts: []fleet.RolloutState{}}
	}
	return g, p, err
}

// setState puts the state of a rollout into the progress, in the place of whatever was
// there of the model.
func setState(p *fleet.Progress, s fleet.RolloutState) {
	p.Rollouts = slices.DeleteFunc(p.Rollouts, func(r fleet.RolloutState) bool { return r.Model == s.Model })
	p.Rollouts = append(p.Rollouts, s)
}
