package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	controlapi "github.com/picket-ml/picket/internal/api/control"
)

// reloaded is what came of a reload.
type reloaded struct {
	Changed     []string        `json:"changed"`
	NeedRestart []string        `json:"need_restart"`
	Models      []reloadedModel `json:"models"`
}

// reloadedModel is what became of one model.
type reloadedModel struct {
	Name   string `json:"name"`
	Action string `json:"action"`          // "load", "replace" or "unload"
	Error  string `json:"error,omitempty"` // why it failed
}

var reloadActions = map[controlapi.ReloadAction]string{
	controlapi.ReloadAction_RELOAD_ACTION_LOAD:    "load",
	controlapi.ReloadAction_RELOAD_ACTION_REPLACE: "replace",
	controlapi.ReloadAction_RELOAD_ACTION_UNLOAD:  "unload",
}

func newReload(flags *daemonFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "reload",
		Short: "Have the daemon read its configuration again",
		Long: `Have the daemon read its configuration again and load, replace and unload models
until those are served that it declares. No request fails by that. Says what was
changed, and what takes effect at the next restart only.

A configuration that is wrong changes nothing. Exit code 1 is for that, and for
models that could not be loaded.`,
		Example: `  picket reload
  picket reload --json`,
		Args: cobra.NoArgs,
	}
	flags.add(c.Flags(), "")
	asJSON := jsonFlag(c)
	c.RunE = withControl(flags, func(c *cobra.Command, d *daemon, _ []string) error {
		answer, err := call(c, d, "reloading the configuration", d.control.Reload, &controlapi.ReloadRequest{})
		if err != nil {
			return err
		}
		out := reloaded{Changed: orEmpty(answer.GetChanged()), NeedRestart: orEmpty(answer.GetNeedRestart()), Models: []reloadedModel{}}
		failed := 0
		for _, m := range answer.GetModels() {
			out.Models = append(out.Models, reloadedModel{m.GetName(), reloadActions[m.GetAction()], m.GetError()})
			if m.GetError() != "" {
				failed++
			}
		}
		if *asJSON {
			err = writeJSON(c.OutOrStdout(), out)
		} else {
			out.write(c.OutOrStdout())
		}
		if err == nil && failed > 0 {
			err = fmt.Errorf("reloading the configuration: %d of its models could not be loaded; what was served before is", failed)
		}
		return err
	})
	return c
}

func (r *reloaded) write(w io.Writer) {
	if len(r.Changed)+len(r.NeedRestart)+len(r.Models) == 0 {
		fmt.Fprintln(w, "nothing has changed")
		return
	}
	for _, m := range r.Models {
		if m.Error != "" {
			fmt.Fprintf(w, "%s: could not %s it: %s\n", m.Name, m.Action, oneLine(m.Error))
		} else {
			fmt.Fprintf(w, "%s: %sed\n", m.Name, strings.TrimSuffix(m.Action, "e"))
		}
	}
	for _, key := range r.Changed {
		fmt.Fprintf(w, "%s: changed\n", key)
	}
	for _, key := range r.NeedRestart {
		fmt.Fprintf(w, "%s: needs a restart\n", key)
	}
}

// orEmpty is a list that JSON writes as one.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
