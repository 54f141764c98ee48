package pipeline

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

const (
	stepEnvironment  = "environment"
	requirementsFile = "requirements.txt"
	maxRequirements  = 1 << 20
)

// requirement is a line that names one version of one package.
var requirement = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*(\[[a-zA-Z0-9,._-]+\])?==[a-zA-Z0-9][a-zA-Z0-9.!+_-]*( *;.*)?( +--hash=sha256:[0-9a-f]{64})*$`)

// readRequirements reads requirements.txt in a folder, nil where there is none. Every line must name one version: otherwise a
// model trained tomorrow would be made by other code than today's, under the same digest.
func readRequirements(source string) ([]byte, error) {
	path := filepath.Join(source, requirementsFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what training needs: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRequirements+1))
	if err != nil {
		return nil, fmt.Errorf("reading what training needs: %w", err)
	}
	if len(text) > maxRequirements {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxRequirements)
	}
	lines := bufio.NewScanner(bytes.NewReader(bytes.ReplaceAll(text, []byte("\\\n"), []byte(" "))))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), " #")
		if line = strings.Join(strings.Fields(line), " "); line == "" || line[0] == '#' {
			continue
		}
		if !requirement.MatchString(line) {
			return nil, fmt.Errorf("%s: %.100q does not name one version of one package: write NAME==VERSION, for everything that is needed (pip freeze lists it)", path, line)
		}
	}
	return text, lines.Err()
}

// environment is a virtual environment.
type environment struct {
	Python  string `json:"python"`
	Version string `json:"version"`
}

// environment makes the virtual environment that training runs in.
func (r *run) environment(ctx context.Context) (*environment, error) {
	t := &r.spec.Training
	needs, err := readRequirements(t.Source)
	if err != nil {
		return nil, err
	}
	version, err := exec.CommandContext(ctx, t.Python, "-c", "import sys; print(sys.version)").Output() //nolint:gosec // the user names it
	if err != nil {
		return nil, fmt.Errorf("asking %s (training.python) for its version: %w; install Python 3 with venv and pip, or name another", t.Python, err)
	}
	e := &environment{Version: oneLine(string(version))}
	from := map[string]string{"requirements": string(needs), "python": t.Python, "version": e.Version, "folder": r.work}
	// It is made in its own place, because it does not bear being moved; the record alone says that it is complete.
	dir := r.path("venv")
	e.Python = filepath.Join(dir, "bin", "python")
	whole := func() bool { _, err := os.Stat(e.Python); return err == nil }
	return e, r.step(ctx, stepEnvironment, from, e, whole, func(ctx context.Context, _ *record) error {
		if err := removeAll(dir); err != nil {
			return err
		}
		log, err := os.Create(r.path("environment.log"))
		if err != nil {
			return fmt.Errorf("making a log: %w", err)
		}
		defer log.Close()
		create := command{args: []string{t.Python, "-m", "venv", dir}, log: log}
		if err := create.do(ctx); err != nil {
			return fmt.Errorf("making a virtual environment with %s -m venv: %w", t.Python, err)
		}
		if len(needs) == 0 {
			return nil
		}
		// Without what packages say they need: everything is listed, with its version.
		install := command{
			args: []string{e.Python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps", "--progress-bar", "off", "-r", filepath.Join(t.Source, requirementsFile)},
			log:  log, line: func(line string) { r.tell(stepEnvironment, Working, line) },
		}
		if err := install.do(ctx); err != nil {
			return fmt.Errorf("installing %s: %w; the whole of it is in %s", requirementsFile, err, log.Name())
		}
		return nil
	})
}

// sourceFiles are the files of the folder with the training program, without what Python leaves there.
func sourceFiles(ctx context.Context, t *Training) ([]file, error) {
	files, err := listFiles(t.Source)
	if err == nil {
		files = slices.DeleteFunc(files, func(f file) bool { return strings.Contains("/"+f.Path, "/__pycache__/") })
		err = digestFiles(ctx, files, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the training program in %s: %w", t.Source, err)
	}
	if !slices.ContainsFunc(files, func(f file) bool { return f.Path == t.Script }) {
		return nil, fmt.Errorf("there is no %s (training.script) in %s", t.Script, t.Source)
	}
	return files, nil
}

// scriptEnv is what SageMaker tells a program in script mode.
func scriptEnv(d *data, dir, parameters string) []string {
	env := []string{
		"SM_MODEL_DIR=" + filepath.Join(dir, "model"), "SM_OUTPUT_DATA_DIR=" + filepath.Join(dir, "output", "data"), "SM_OUTPUT_DIR=" + filepath.Join(dir, "output"),
		"SM_NUM_CPUS=" + strconv.Itoa(runtime.NumCPU()), "SM_NUM_GPUS=0", `SM_HOSTS=["algo-1"]`, "SM_CURRENT_HOST=algo-1", "SM_HPS=" + parameters,
		"PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1",
	}
	var names []string
	for _, c := range d.Channels {
		names = append(names, strconv.Quote(c.Channel))
		env = append(env, "SM_CHANNEL_"+strings.ToUpper(c.Channel)+"="+channelFolder(dir, c))
	}
	return append(env, "SM_CHANNELS=["+strings.Join(names, ",")+"]")
}

// channelFolder is where a program finds a channel: a channel that is one file lies in a folder of its own.
func channelFolder(dir string, c rowsOf) string {
	if c.files[0].from == c.Path {
		return filepath.Join(dir, "input", c.Channel)
	}
	return c.Path
}
