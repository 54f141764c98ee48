//go:build cgo && linux

package peers

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/source"
)

// ErrUnsuited is what the error of Open is when the peer does not take such models, or more than one thread.
var ErrUnsuited = errors.New("the peer is not for this")

// Install installs the peers' libraries unless they are there.
func Install(ctx context.Context) error { return prepare(ctx) }

func prepare(ctx context.Context, arguments ...string) error {
	c := exec.CommandContext(ctx, filepath.Join(source.Root(), "bench/peers/prepare.sh"), arguments...)
	c.Stderr = os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("preparing peers (%v): %w", arguments, err)
	}
	return nil
}

// form makes what a peer runs of the model, unless it is there, and gives its path.
func form(ctx context.Context, name string, t Task) (string, error) {
	if l := t.Model.Library; l != models.XGBoost && l != models.LightGBM {
		return "", fmt.Errorf("%w: it takes models of XGBoost and LightGBM", ErrUnsuited)
	}
	path := filepath.Join(models.Cache(), "peers", t.Model.Name, name)
	if err := t.ready(path); err != nil {
		return "", err
	}
	trained, err := t.Model.Train(ctx)
	if err != nil {
		return "", err
	}
	return path, prepare(ctx, name, t.Model.Name, trained)
}

func neoArtifact(ctx context.Context, t Task) (string, error) { return form(ctx, "treelite093", t) }

func ownArtifact(ctx context.Context, t Task) (string, error) {
	if err := t.ready(t.Model.ArtifactFolder(ctx)); err != nil {
		return "", err
	}
	made, err := t.Model.Compiled(ctx)
	return made.Dir, err
}

// ready refuses a path that is not there yet where the task wants that.
func (t Task) ready(path string) error {
	if _, err := os.Stat(path); err != nil && t.Ready {
		return fmt.Errorf("%w: it was not compiled yet, and only what was is measured this time", ErrUnsuited)
	}
	return nil
}

// environment is the folder of the peers' Python environment; below it, installed are its packages.
func environment() string { return filepath.Join(source.Root(), ".cache/venv-peers") }

// installed finds the one file that pattern names among the installed packages.
func installed(pattern string) (string, error) {
	found, err := filepath.Glob(filepath.Join(environment(), "lib/python*/site-packages", pattern))
	if err != nil {
		return "", fmt.Errorf("looking for %s: %w", pattern, err)
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d files are named %s among the installed peers; remove .cache/venv-peers to have them installed again", len(found), pattern)
	}
	return found[0], nil
}

// Installed tells whether the peers' libraries are there, at the versions that are asked for.
func Installed() bool {
	want, err := os.ReadFile(filepath.Join(source.Root(), "bench/peers/requirements.txt"))
	if err != nil {
		return false
	}
	have, err := os.ReadFile(filepath.Join(environment(), "installed.txt"))
	return err == nil && bytes.Equal(want, have)
}

// Version is that of a library, by the name of its target; empty where it is none of the installed packages.
func Version(target string) string {
	if target == "libdlr" {
		return "1.6.0"
	}
	packages := map[string]string{"xgboost": "xgboost-cpu", "gtil": "treelite", "onedal": "daal"}
	name := cmp.Or(packages[target], target)
	text, err := os.ReadFile(filepath.Join(source.Root(), "bench/peers/requirements.txt"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if version, found := strings.CutPrefix(line, name+"=="); found {
			return strings.TrimSpace(version)
		}
	}
	return ""
}
