package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/fleet"
)

// groupFlag is the group that a command is about.
func groupFlag(c *cobra.Command) *string {
	return c.Flags().String("group", "default", "the `GROUP` of devices")
}

// meantFlag is the group that a command is about which changes what is there already: meantGroup finds the one that is meant
// where the flag is not given.
func meantFlag(c *cobra.Command) *string {
	return c.Flags().String("group", "", "the `GROUP` of devices (default the device's, or the only one that has the model)")
}

// meantGroup puts into *group, where it is empty, the group of the device, or with no device the only one that has the model.
func meantGroup(ctx context.Context, e *fleet.Edit, group *string, device, model string) error {
	if *group != "" {
		return nil
	}
	devices, err := e.Reader.Devices(ctx)
	if err != nil {
		return err
	}
	if device != "" {
		its, known := devices.Devices[device]
		if !known {
			return fmt.Errorf("the fleet has no device %s; picket fleet status --server shows those there are", device)
		}
		*group = its
		return nil
	}
	var have []string
	for _, name := range e.Reader.Groups() {
		g, err := e.Reader.Group(ctx, devices.Fleet, name)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(g.Models, func(m fleet.Model) bool { return m.Name == model }) || slices.ContainsFunc(g.Pins, func(p fleet.Pin) bool { return p.Model == model }) {
			have = append(have, name)
		}
	}
	slices.Sort(have)
	switch len(have) {
	case 0:
		return fmt.Errorf("no group has a model %s; picket fleet status shows what there is", model)
	case 1:
		*group = have[0]
		return nil
	}
	return fmt.Errorf("the groups %s have a model %s: say which is meant with --group", strings.Join(have, ", "), model)
}

func newFleetRollout(f *fleetFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "rollout PACKAGE",
		Short: "Bring a package to the devices of a group, stage by stage",
		Long: `Bring the signed package in the file PACKAGE to the devices of a group: to those
of the first stage at once, and to the next as soon as all devices of a stage
that are there serve it and have watched it for the time of --bake. Who moves it
on is "picket fleet serve". When more than --max-failures devices fail, the
rollout halts and every device goes back to what it had. A device fails when it
does not load the package, when the model answers the package's rows otherwise
than it should, when too many requests fail or take too long while it is
watched, or when it falls silent.`,
		Example: `  picket fleet rollout fraud-4.tar.gz
  picket fleet rollout fraud-4.tar.gz --group tills --stages 1,10,50,100 \
    --bake 1h`,
		Args: cobra.ExactArgs(1),
	}
	group := groupFlag(c)
	name := c.Flags().String("name", "", "serve it as `MODEL`; else as the package is called")
	stages := c.Flags().String("stages", "5,25,100", "rising `PERCENTAGES` of the group's devices; the last is 100")
	health := fleet.DefaultHealth()
	bake := c.Flags().Duration("bake", time.Duration(health.BakeSeconds)*time.Second, "how long each device watches the new model")
	silence := c.Flags().Duration("silence", time.Duration(health.SilenceSeconds)*time.Second, "after what silence a device counts as failed that was there")
	c.Flags().IntVar(&health.MaxFailures, "max-failures", 0, "how many `DEVICES` may fail")
	c.Flags().Float64Var(&health.MaxErrorRate, "max-error-rate", health.MaxErrorRate, "the `FRACTION` of requests that may fail in the model")
	c.Flags().IntVar(&health.MinRequests, "min-requests", health.MinRequests, "judge after so many `REQUESTS`")
	p99 := c.Flags().Duration("max-p99", 0, "what the 99th percentile of the model's runs may be; 0 for anything")
	replace := c.Flags().Bool("replace", false, "take the place of a rollout that is under way")
	asJSON := jsonFlag(c)
	c.RunE = f.changing(func(ctx context.Context, c *cobra.Command, o *openedFleet, p *fleet.Publisher, args []string) error {
		health.BakeSeconds, health.SilenceSeconds, health.MaxP99Micros = int(bake.Seconds()), int(silence.Seconds()), int(p99.Microseconds())
		percent, err := parseStages(*stages)
		if err != nil {
			return err
		}
		one, err := fleetPackage(ctx, c, o, args[0])
		if err != nil {
			return err
		}
		m := fleet.Model{Name: one.Name, Package: one, Rollout: fleet.Rollout{ID: newID(one), Stages: percent, Health: health}}
		if *name != "" {
			m.Name = *name
		}
		if err := m.Rollout.Check(); err != nil {
			return usage("%v", err)
		}
		devices := 0
		err = p.Change(ctx, func(ctx context.Context, e *fleet.Edit) error {
			var err error
			if devices, err = devicesIn(ctx, e, *group); err != nil {
				return err
			}
			return begin(ctx, e, *group, &m, *replace)
		})
		if err != nil {
			return fmt.Errorf("rolling out %s to group %s: %w", one.String(), *group, err)
		}
		if devices == 0 {
			fmt.Fprintf(c.ErrOrStderr(), "picket: no device is in the group %s yet: picket fleet add puts some there, or is its name another?\n", *group)
		}
		return say(c, *asJSON, map[string]any{"rollout": m.Rollout.ID, "group": *group, "devices": devices, "model": m.Name, "package": one, "previous": m.Previous, "stages": percent},
			"began rollout %s\n  group    %s\n  model    %s\n  package  %s\n  before   %s\n  stages   %s percent", m.Rollout.ID, *group, m.Name, one.String(), m.Previous, *stages)
	})
	return c
}

func parseStages(text string) ([]float64, error) {
	var all []float64
	for part := range strings.SplitSeq(text, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil {
			return nil, usage("--stages %q: %q is no percentage; write rising ones such as 5,25,100", text, part)
		}
		all = append(all, v)
	}
	return all, nil
}

// devicesIn is how many devices are in a group.
func devicesIn(ctx context.Context, e *fleet.Edit, group string) (n int, err error) {
	all, err := e.Reader.Devices(ctx)
	if err != nil {
		return 0, err
	}
	for _, of := range all.Devices {
		if of == group {
			n++
		}
	}
	return n, nil
}

// begin puts a rollout into the documents of its group.
func begin(ctx context.Context, e *fleet.Edit, group string, m *fleet.Model, replace bool) error {
	g, p, err := groupOf(ctx, e, group)
	if err != nil {
		return err
	}
	for _, pin := range g.Pins {
		if pin.Device == "" && pin.Model == m.Name {
			return fmt.Errorf("the group is pinned to %s: picket fleet unpin %s --group %s first", pin.Package.String(), m.Name, group)
		}
	}
	m.Previous = nil
	i := slices.IndexFunc(g.Models, func(o fleet.Model) bool { return o.Name == m.Name })
	if i < 0 {
		g.Models = append(g.Models, *m)
	} else {
		was := g.Models[i]
		switch state := p.Of(was.Name, was.Rollout.ID); {
		case state != nil && state.State == fleet.Done:
			m.Previous = &was.Package
		case state != nil && state.State == fleet.Halted, replace:
			m.Previous = was.Previous
		default:
			return fmt.Errorf("rollout %s of %s is under way: wait for its end, end it with picket fleet halt %s --group %s, or put this one in its place with --replace",
				was.Rollout.ID, was.Package.String(), was.Name, group)
		}
		g.Models[i] = *m
	}
	setState(p, fleet.RolloutState{Model: m.Name, Rollout: m.Rollout.ID, State: fleet.Running, Since: now(), Reason: "begun by an operator"})
	if err := e.SetGroup(ctx, g); err != nil {
		return err
	}
	return e.SetProgress(ctx, p)
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

// newFleetState makes a command that changes the state of a rollout.
func newFleetState(f *fleetFlags, verb, short, long, why string, to fleet.State, from []fleet.State) *cobra.Command {
	c := &cobra.Command{
		Use:     verb + " MODEL",
		Short:   short,
		Long:    long,
		Example: "  picket fleet " + verb + " fraud --reason \"" + why + "\"",
		Args:    cobra.ExactArgs(1),
	}
	group := meantFlag(c)
	reason := c.Flags().String("reason", "", "`WHY`, for people")
	asJSON := jsonFlag(c)
	c.RunE = f.changing(func(ctx context.Context, c *cobra.Command, _ *openedFleet, p *fleet.Publisher, args []string) error {
		var state fleet.RolloutState
		err := p.Change(ctx, func(ctx context.Context, e *fleet.Edit) error {
			if err := meantGroup(ctx, e, group, "", args[0]); err != nil {
				return err
			}
			g, progress, err := groupOf(ctx, e, *group)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(g.Models, func(m fleet.Model) bool { return m.Name == args[0] })
			if i < 0 {
				return fmt.Errorf("group %s has no model %s", *group, args[0])
			}
			is := progress.Of(args[0], g.Models[i].Rollout.ID)
			if is == nil {
				return fmt.Errorf("rollout %s has not begun", g.Models[i].Rollout.ID)
			}
			if !slices.Contains(from, is.State) {
				return fmt.Errorf("rollout %s is %s", is.Rollout, is.State)
			}
			state = *is
			state.State, state.Since, state.Reason = to, now(), verb+" by an operator"
			if *reason != "" {
				state.Reason += ": " + *reason
			}
			setState(progress, state)
			return e.SetProgress(ctx, progress)
		})
		if err != nil {
			return fmt.Errorf("changing the rollout of %s: %w", args[0], err)
		}
		return say(c, *asJSON, state, "rollout %s in group %s is %s, stage %d", state.Rollout, *group, state.State, state.Stage+1)
	})
	return c
}

func newFleetPause(f *fleetFlags) *cobra.Command {
	return newFleetState(f, "pause", "Keep a rollout at its stage", `Keep the rollout of MODEL at its stage: devices that it has reached keep the new
package, and it reaches no others until picket fleet resume.`, "more denials than yesterday", fleet.Paused, []fleet.State{fleet.Running})
}

func newFleetResume(f *fleetFlags) *cobra.Command {
	return newFleetState(f, "resume", "Let a paused rollout go on", `Let a rollout of MODEL go on that was paused. One that was halted does not:
begin another.`, "the denials were a test", fleet.Running, []fleet.State{fleet.Paused})
}

func newFleetHalt(f *fleetFlags) *cobra.Command {
	return newFleetState(f, "halt", "End a rollout and have every device go back", `End the rollout of MODEL and have every device go back to the package it had
before, also where the rollout is done.`, "more denials than yesterday", fleet.Halted, []fleet.State{fleet.Running, fleet.Paused, fleet.Done})
}

func newFleetPin(f *fleetFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "pin MODEL PACKAGE",
		Short: "Keep a device or a group on one package",
		Long: `Keep a device, or with no --device the whole group, on one package of MODEL,
whatever rollouts say. PACKAGE is the file of a signed package, or the version
of one that the group's documents know: what the rollout leads to, and what was
before.`,
		Example: `  picket fleet pin fraud 3 --device till-17
  picket fleet pin fraud fraud-3.tar.gz --group tills`,
		Args: cobra.ExactArgs(2),
	}
	group := meantFlag(c)
	device := c.Flags().String("device", "", "the `DEVICE`; else the whole group")
	asJSON := jsonFlag(c)
	c.RunE = f.changing(func(ctx context.Context, c *cobra.Command, o *openedFleet, p *fleet.Publisher, args []string) error {
		pin := fleet.Pin{Device: *device, Model: args[0]}
		if _, err := os.Stat(args[1]); err == nil {
			one, err := fleetPackage(ctx, c, o, args[1])
			if err != nil {
				return err
			}
			pin.Package = one
		}
		err := p.Change(ctx, func(ctx context.Context, e *fleet.Edit) error {
			if err := meantGroup(ctx, e, group, *device, args[0]); err != nil {
				return err
			}
			g, _, err := groupOf(ctx, e, *group)
			if err != nil {
				return err
			}
			if pin.Package.Name == "" {
				known, err := packageIn(g, args[0], args[1])
				if err != nil {
					return err
				}
				pin.Package = known
			}
			pin.ID = "pin-" + newID(pin.Package)
			g.Pins = slices.DeleteFunc(g.Pins, func(o fleet.Pin) bool { return o.Device == pin.Device && o.Model == pin.Model })
			g.Pins = append(g.Pins, pin)
			return e.SetGroup(ctx, g)
		})
		if err != nil {
			return fmt.Errorf("pinning %s: %w", args[0], err)
		}
		return say(c, *asJSON, pin, "pinned %s of %s to %s", args[0], whom(*group, *device), pin.Package.String())
	})
	return c
}

// packageIn is the package of that version that the documents of a group know.
func packageIn(g *fleet.Group, model, version string) (fleet.Package, error) {
	for _, m := range g.Models {
		if m.Name != model {
			continue
		}
		if m.Package.Version == version {
			return m.Package, nil
		}
		if m.Previous != nil && m.Previous.Version == version {
			return *m.Previous, nil
		}
	}
	for _, p := range g.Pins {
		if p.Model == model && p.Package.Version == version {
			return p.Package, nil
		}
	}
	return fleet.Package{}, fmt.Errorf("there is no file %s, and the documents of group %s know no version %s of %s", version, g.Group, version, model)
}

func whom(group, device string) string {
	if device != "" {
		return "device " + device
	}
	return "group " + group
}

func newFleetUnpin(f *fleetFlags) *cobra.Command {
	c := &cobra.Command{
		Use:     "unpin MODEL",
		Short:   "Let a device or a group follow rollouts again",
		Example: `  picket fleet unpin fraud --device till-17`,
		Args:    cobra.ExactArgs(1),
	}
	group := meantFlag(c)
	device := c.Flags().String("device", "", "the `DEVICE`; else the whole group")
	asJSON := jsonFlag(c)
	c.RunE = f.changing(func(ctx context.Context, c *cobra.Command, _ *openedFleet, p *fleet.Publisher, args []string) error {
		err := p.Change(ctx, func(ctx context.Context, e *fleet.Edit) error {
			if err := meantGroup(ctx, e, group, *device, args[0]); err != nil {
				return err
			}
			g, _, err := groupOf(ctx, e, *group)
			if err != nil {
				return err
			}
			before := len(g.Pins)
			g.Pins = slices.DeleteFunc(g.Pins, func(o fleet.Pin) bool { return o.Device == *device && o.Model == args[0] })
			if len(g.Pins) == before {
				return errors.New("it is not pinned")
			}
			return e.SetGroup(ctx, g)
		})
		if err != nil {
			return fmt.Errorf("unpinning %s of %s: %w", args[0], whom(*group, *device), err)
		}
		return say(c, *asJSON, map[string]string{"model": args[0], "group": *group, "device": *device}, "%s of %s follows rollouts again", args[0], whom(*group, *device))
	})
	return c
}
