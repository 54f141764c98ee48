package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// compile makes an artifact of the model for this host's processor, with the command that users have.
func (d *demo) compile(ctx context.Context, artifact string) error {
	target, err := d.target(ctx)
	if err != nil {
		return err
	}
	d.out.step("compile", "fraud.ubj, an XGBoost model, to machine code for this host")
	began := time.Now()
	command := exec.CommandContext(ctx, d.picket, "compile", filepath.Join(d.data, "fraud.ubj"), "-o", artifact, "--target", target, "--json")
	command.Stderr = os.Stderr // its progress
	// Interrupted, it tidies up behind itself.
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 5 * time.Second
	text, err := command.Output()
	if err != nil {
		return fmt.Errorf("compiling the model: %w; the line above says why", err)
	}
	var made struct {
		Target, Compiler string
		Trees, Nodes     int
		Bytes            int64
	}
	if err := json.Unmarshal(text, &made); err != nil {
		return fmt.Errorf("reading what picket compile made: %w", err)
	}
	d.out.more("%d trees, %d nodes: %.0f KiB for %s, in %.1f s", made.Trees, made.Nodes, float64(made.Bytes)/1024, made.Target, time.Since(began).Seconds())
	d.out.more("by %s", made.Compiler)
	return nil
}

// target is the name that picket compile has for this host's processor.
func (d *demo) target(ctx context.Context) (string, error) {
	command := exec.CommandContext(ctx, d.picket, "info", "--json")
	command.Env = append(os.Environ(), "PICKET_IMDS=off") // the processor is all that is asked for
	text, err := command.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.New(strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("asking %s what this host is: %w; `make build` makes it", d.picket, err)
	}
	var info struct{ CPU struct{ Level string } }
	if err := json.Unmarshal(text, &info); err != nil || info.CPU.Level == "" {
		return "", fmt.Errorf("asking %s what this host is: its answer names no processor level", d.picket)
	}
	if info.CPU.Level == "x86-64-v1" { // which compilers call by its family's name
		return "x86-64", nil
	}
	return info.CPU.Level, nil
}
