package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/cloud"
	"github.com/picket-ml/picket/internal/config"
)

// cloudFlags are for the commands that reach AWS.
type cloudFlags struct {
	options  cloud.Options
	config   string
	patience time.Duration
}

// addCloudFlags adds them. What they leave out is said by the section aws of --config.
func addCloudFlags(c *cobra.Command) *cloudFlags {
	f := &cloudFlags{}
	f.options.AddFlags(c.Flags())
	c.Flags().StringVarP(&f.config, "config", "c", "", "the daemon's configuration `FILE`: its sections aws and trust, packages and packages_from hold here too")
	c.Flags().DurationVar(&f.patience, "patience", time.Hour, "how long to go on while the store cannot be reached; 0 for ever")
	return f
}

// load reads --config; without it the result is that of an empty file.
func (f *cloudFlags) load() (*config.Config, error) {
	if f.patience < 0 {
		return nil, usage("--patience %v is below 0", f.patience)
	}
	c := config.Default()
	if f.config != "" {
		var err error
		if c, err = readDaemonConfig(f.config, ""); err != nil {
			return nil, err
		}
	}
	c.AWS = f.options.Over(c.AWS)
	var wrong error
	c.AWS.Check(func(key, sentence string) { wrong = errors.Join(wrong, usage("%s %s", key, sentence)) })
	return c, wrong
}

// policy tells the user why there is a pause.
func (f *cloudFlags) policy(bar *transferBar) cloud.Policy {
	p := cloud.DefaultPolicy()
	p.Longest, p.Patience = time.Minute, f.patience // somebody waits
	p.Report = bar.trouble
	return p
}

// cloudFailure gives a refusal its exit code.
func cloudFailure(err error) error {
	var failed *failure
	switch {
	case errors.As(err, &failed):
		return &failure{failed.code, err} // the whole sentence
	case cloud.Denied(err):
		return &failure{exitPolicy, err}
	}
	return err
}

// transferBar shows how far a transfer is, and what holds it up. Its methods may be called by many at once.
type transferBar struct {
	mu   sync.Mutex
	bar  *progress
	what string
}

func newTransferBar(c *cobra.Command, what string) *transferBar {
	return &transferBar{bar: newProgress(c.ErrOrStderr(), os.Getenv("TERM")), what: what}
}

func (b *transferBar) step(done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bar.step(int(done), int(total), fmt.Sprintf("%s, %s of %s", b.what, mib(done), mib(total)))
}

func (b *transferBar) trouble(err error, pause time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bar.end()
	if pause == 0 {
		fmt.Fprintf(b.bar.w, "%s: %s\n", b.what, joined(err.Error()))
		return
	}
	fmt.Fprintf(b.bar.w, "%s: %s; trying again in %s\n", b.what, joined(err.Error()), max(pause.Round(time.Second), time.Second))
}

func (b *transferBar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bar.end()
}

// mib is a number of bytes for people.
func mib(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
