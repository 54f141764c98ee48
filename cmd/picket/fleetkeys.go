package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/assemble"
	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/serve"
)

func newFleetAdd(f *fleetFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "add DEVICE...",
		Short: "Add devices to a group",
		Long: `Add devices to a group of the fleet, or move them there. The server answers no
others, and a rollout waits for these. With --credentials each one that has no
line in that file yet gets a key of its own there: the server reads the file,
and the device needs its own line.`,
		Example: `  picket fleet add till-1 till-2 --group tills --credentials devices.txt
  picket fleet add --from tills.txt --group tills`,
	}
	group := groupFlag(c)
	from := c.Flags().String("from", "", "a `FILE` with a device's name in each line")
	credentials := c.Flags().String("credentials", "", "the server's `FILE` of keys, to which new ones are added")
	asJSON := jsonFlag(c)
	c.RunE = f.changing(func(ctx context.Context, c *cobra.Command, _ *openedFleet, p *fleet.Publisher, args []string) error {
		names, err := deviceNames(args, *from)
		if err != nil {
			return err
		}
		err = changeDevices(ctx, p, func(groups map[string]string) error {
			for _, name := range names {
				groups[name] = *group
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("adding devices to group %s: %w", *group, err)
		}
		var keys []string
		if *credentials != "" {
			if keys, err = serve.AddCredentials(*credentials, names); err != nil {
				return err
			}
		}
		return say(c, *asJSON, map[string]any{"group": *group, "devices": names, "new_keys": keys}, "%d devices are in group %s; %d got a key", len(names), *group, len(keys))
	})
	return c
}

func newFleetRemove(f *fleetFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "remove DEVICE...",
		Short: "Take devices out of the fleet",
		Long: `Take devices out of the fleet: the server answers them no more, and no rollout
waits for them. They go on following the documents as long as they are
configured to.`,
		Example: `  picket fleet remove till-17
  picket fleet remove --from closed-branch.txt`,
	}
	from := c.Flags().String("from", "", "a `FILE` with a device's name in each line")
	asJSON := jsonFlag(c)
	c.RunE = f.changing(func(ctx context.Context, c *cobra.Command, _ *openedFleet, p *fleet.Publisher, args []string) error {
		names, err := deviceNames(args, *from)
		if err != nil {
			return err
		}
		err = changeDevices(ctx, p, func(groups map[string]string) error {
			for _, name := range names {
				if _, is := groups[name]; !is {
					return fmt.Errorf("the fleet has no device %s", name)
				}
				delete(groups, name)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("removing devices: %w", err)
		}
		return say(c, *asJSON, map[string]any{"removed": names}, "%d devices are in the fleet no more", len(names))
	})
	return c
}

// changeDevices publishes what change makes of the devices' groups, by their names.
func changeDevices(ctx context.Context, p *fleet.Publisher, change func(groups map[string]string) error) error {
	return p.Change(ctx, func(ctx context.Context, e *fleet.Edit) error {
		d, err := e.Reader.Devices(ctx)
		if err != nil {
			return err
		}
		if err := change(d.Devices); err != nil {
			return err
		}
		return e.SetDevices(ctx, d)
	})
}

func deviceNames(args []string, from string) ([]string, error) {
	if from != "" {
		text, err := assemble.ReadText(from)
		if err != nil {
			return nil, fmt.Errorf("reading the names of devices in %s: %w", from, err)
		}
		args = append(args, strings.Fields(string(text))...)
	}
	if len(args) == 0 {
		return nil, usage("name a device, or a file of names with --from")
	}
	for _, name := range args {
		if err := fleet.CheckName("device", name); err != nil {
			return nil, usage("%v", err)
		}
	}
	return args, nil
}

func newFleetRefresh(f *fleetFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "refresh",
		Short: "Sign the documents anew before they expire",
		Long: `Sign the documents anew whose time is half over, as far as the keys here go. A
running "picket fleet serve" does that for all but targets, which need the
operator's key once a year. It also ends a change of keys that was cut off.`,
		Example: `  picket fleet refresh --place s3://models/fleets/pos --keys ~/pos-keys`,
		Args:    cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	c.RunE = f.changing(func(ctx context.Context, c *cobra.Command, o *openedFleet, p *fleet.Publisher, _ []string) error {
		err := p.Change(ctx, func(_ context.Context, e *fleet.Edit) error {
			e.Renew()
			return nil // the timestamp is signed anew in any case
		})
		if err != nil {
			return fmt.Errorf("signing the fleet's documents anew: %w", err)
		}
		v, err := versionsOf(ctx, o)
		if err != nil {
			return err
		}
		return say(c, *asJSON, v, "signed anew: the timestamp is good until %s, the targets until %s", v["timestamp"].Expires.Format("2006-01-02 15:04"), v["targets"].Expires.Format("2006-01-02"))
	})
	return c
}

func versionsOf(ctx context.Context, o *openedFleet) (map[string]fleet.Version, error) {
	r, err := fleet.NewReader(fleet.ReaderOptions{Bucket: o.bucket, Root: o.root})
	if err != nil {
		return nil, err
	}
	if _, err := r.Refresh(ctx); err != nil {
		return nil, refusal(err)
	}
	return r.Versions(), nil
}

func newFleetRotate(f *fleetFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "rotate root|targets|online",
		Short: "Replace a key by a new one",
		Long: `Replace the key of a role by a new one, as a habit or because it was stolen. The
root keys must be in the folder of keys for it; the old key is kept there under
another name. Devices need nothing: the new root document is signed with the old
one's keys, and a device follows from one to the next, however long it was away.`,
		Example: `  picket fleet rotate online
  picket fleet rotate root --key root-2.pem`,
		ValidArgs: []string{"root", "targets", "online"},
	}
	which := c.Flags().String("key", "", "of several root keys, the `FILE` to replace, such as root-2.pem")
	asJSON := jsonFlag(c)
	c.Args = func(c *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(1)(c, args); err != nil {
			return err
		}
		if !slices.Contains(c.ValidArgs, args[0]) {
			return usage("%q is no role of a fleet's keys; there are %s", args[0], strings.Join(c.ValidArgs, ", "))
		}
		return nil
	}
	c.RunE = f.changing(func(ctx context.Context, c *cobra.Command, _ *openedFleet, p *fleet.Publisher, args []string) error {
		root, err := p.Rotate(ctx, f.keys, args[0], *which)
		if err != nil {
			return fmt.Errorf("replacing the %s key: %w", args[0], err)
		}
		if err := durable.WriteFile(f.rootFile(), root, 0o644); err != nil {
			return fmt.Errorf("writing the root document %s: %w", f.rootFile(), err)
		}
		return say(c, *asJSON, map[string]string{"role": args[0], "root": f.rootFile()}, "the %s key is a new one; new devices need %s as it is now", args[0], f.rootFile())
	})
	return c
}
