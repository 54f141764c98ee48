package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/durable"
)

// Options say what is to be read, and where the new files go.
type Options struct {
	// Dir is the agent's folder, absolute: its configuration and its models are looked for there.
	Dir string
	// Unit is the agent's unit of systemd; empty for none. Config and Socket are stronger than what it says.
	Unit   string
	Config string
	Socket string
	// Models are folders to look for models in, instead of Dir. Names are what models are served as, by their paths.
	Models []string
	Names  map[string]string
	// Unsigned leaves folders where they are and has them loaded unsigned, for clients that load them by their paths.
	Unsigned bool
	// Etc, State, Sockets and Units are picketd's folders: its configuration, what it keeps, its sockets, systemd's units.
	Etc, State, Sockets, Units string
}

// Plan is what a migration would do.
type Plan struct {
	// Config, Unit, User and Socket are what was found of the old installation.
	Config string `json:"config"`
	Unit   string `json:"unit"`
	User   string `json:"user"`
	Socket string `json:"socket"`
	// Models are those that will be served, Files those to be written.
	Models []Model `json:"models"`
	Files  []File  `json:"files"`
	// Notes are what has no equivalent, and what the operator should know.
	Notes []Note `json:"notes"`
}

// File is one to be written.
type File struct {
	Path string      `json:"path"`
	Mode fs.FileMode `json:"mode"`
	What string      `json:"what"`
	Text string      `json:"text,omitempty"` // its content, if it is not copied

	write func(context.Context, io.Writer) error
}

// Note is a sentence about a key, a file or a variable.
type Note struct {
	About string `json:"about"`
	Says  string `json:"says"`
}

// New reads the old installation and plans. Nothing is written.
func New(ctx context.Context, o Options) (*Plan, error) {
	p := &Plan{Models: []Model{}, Files: []File{}, Notes: []Note{}}
	var s *service
	var flags agentFlags
	if o.Unit != "" {
		var err error
		if s, err = readService(o.Unit); err != nil {
			return nil, err
		}
		p.Unit, p.User = s.file, s.user
		p.Notes = append(p.Notes, s.notes...)
		if flags, err = s.flags(); err != nil && (o.Config == "" || o.Socket == "") {
			return nil, err
		}
	}
	p.Config, p.Socket = first(o.Config, flags.config), first(o.Socket, flags.socket)
	if p.Config == "" {
		var err error
		if p.Config, err = findConfig(o.Dir); err != nil {
			return nil, err
		}
	}
	c, err := config.Resolve(config.Flags{Config: p.Config, StateDir: o.State, MaxMessage: flags.maxMessage}, func(string) string { return "" })
	if err != nil {
		return nil, fmt.Errorf("reading the agent's configuration: %w", err)
	}
	if c.Legacy == nil {
		return nil, fmt.Errorf("reading the agent's configuration: %s is no file of the Edge Manager agent", p.Config)
	}
	c.Sockets.Dir = o.Sockets
	if p.Socket == "" {
		p.note("-a", "no socket is known; name it with --socket, or clients find picketd at %s alone", filepath.Join(o.Sockets, "agent.sock"))
	} else if p.Socket != filepath.Join(o.Sockets, "agent.sock") {
		c.Sockets.Agent.Paths = append(c.Sockets.Agent.Paths, p.Socket)
	}
	if err := p.models(ctx, o, c); err != nil {
		return nil, err
	}
	p.certificates(o, c)
	p.withoutEquivalent(c, s)

	text, err := c.YAML()
	if err != nil {
		return nil, err
	}
	head := fmt.Sprintf("# Made by picket migrate of %s.\n# Every key with its default: picket-config(5).\n", p.Config)
	p.text(filepath.Join(o.Etc, "picketd.yaml"), 0o644, "the configuration", head+string(text))
	p.text(filepath.Join(o.Units, "picketd.service.d", "edge-manager.conf"), 0o644, "what picketd's unit must allow", s.dropIn(p.needs(o, c)))
	return p, nil
}

func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// findConfig is the one file in the agent's folder that its configuration can be.
func findConfig(dir string) (string, error) {
	usual := filepath.Join(dir, "sagemaker_edge_config.json")
	if _, err := os.Stat(usual); err == nil {
		return usual, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("looking for the agent's configuration: %w", err)
	}
	var found []string
	for _, entry := range entries {
		file := filepath.Join(dir, entry.Name())
		if filepath.Ext(file) != ".json" {
			continue
		}
		if c, err := config.Load(file); err == nil && c.Legacy != nil {
			found = append(found, file)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("there is no sagemaker_edge_config.json in %s; name it with --config", dir)
	}
	return "", fmt.Errorf("%s are configurations of the agent; name one with --config", strings.Join(found, " and "))
}

func (p *Plan) note(about, format string, args ...any) {
	p.Notes = append(p.Notes, Note{about, fmt.Sprintf(format, args...)})
}

func (p *Plan) text(path string, mode fs.FileMode, what, text string) {
	p.Files = append(p.Files, File{Path: path, Mode: mode, What: what, Text: text, write: func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}})
}

// unused is a path in dir that no other file of the plan has: names that differ may lead to the same one.
func (p *Plan) unused(dir, name, ext string) string {
	path := filepath.Join(dir, name+ext)
	for n := 2; slices.ContainsFunc(p.Files, func(f File) bool { return f.Path == path }); n++ {
		path = filepath.Join(dir, fmt.Sprintf("%s-%d%s", name, n, ext))
	}
	return path
}

// models finds the models, and says how each is trusted and loaded.
func (p *Plan) models(ctx context.Context, o Options, c *config.Config) error {
	dirs := o.Models
	if len(dirs) == 0 {
		dirs = []string{o.Dir}
		if local := c.Legacy.LocalDataRoot; local != "" && !within(local, o.Dir) {
			if _, err := os.Stat(local); err == nil {
				dirs = append(dirs, local)
			}
		}
	}
	models, notes, err := findModels(ctx, dirs, o.State)
	if err != nil {
		return err
	}
	p.Notes = append(p.Notes, notes...)
	if models = withoutCopies(models); len(models) == 0 {
		p.note(strings.Join(dirs, ", "), "holds no model; name the folder with --models, or load models later with picket load")
	}
	if err := nameModels(models, o.Names); err != nil {
		return fmt.Errorf("naming the models: %w", err)
	}
	for i := range models {
		m := &models[i]
		if !m.archive && o.Unsigned {
			m.Path = m.From
			c.Unsigned = true
			if root := filepath.Dir(m.From); !slices.Contains(c.ModelRoots, root) {
				c.ModelRoots = append(c.ModelRoots, root)
			}
		} else if err := p.pack(ctx, o, m); err != nil {
			return err
		}
		if m.Digest != "" && !slices.Contains(c.Trust.Packages, m.Digest) {
			c.Trust.Packages = append(c.Trust.Packages, m.Digest)
		}
		c.Models = append(c.Models, config.Model{Name: m.Name, Path: m.Path, Run: c.ModelDefaults})
	}
	if c.Unsigned {
		p.note("--unsigned", "everything below %s is loaded without a signature: whoever can write there can run code as picketd", strings.Join(c.ModelRoots, ", "))
	} else if len(models) > 0 {
		p.note("clients", "that load models themselves are told that those are loaded already, if they use the same names (--model NAME=PATH); other folders are refused (--unsigned)")
	}
	p.Models = append(p.Models, models...)
	return nil
}

// pack plans the archive of a model.
func (p *Plan) pack(ctx context.Context, o Options, m *Model) error {
	file := m.Name
	if m.Version != "" {
		file += "-" + asName(m.Version)
	}
	m.Path = p.unused(filepath.Join(o.State, "edge-manager"), file, ".tar.gz")
	from := *m
	if m.archive {
		p.Files = append(p.Files, File{Path: m.Path, Mode: 0o644, What: "a copy of " + m.From, write: func(ctx context.Context, w io.Writer) error {
			return copyArchive(ctx, w, from.From, from.Digest)
		}})
		return nil
	}
	var err error
	if m.Digest, err = pack(ctx, io.Discard, m.From); err != nil {
		return err
	}
	from.Digest = m.Digest
	p.Files = append(p.Files, File{Path: m.Path, Mode: 0o644, What: "the files of " + m.From, write: func(ctx context.Context, w io.Writer) error {
		is, err := pack(ctx, w, from.From)
		if err == nil && is != from.Digest {
			err = fmt.Errorf("%s was changed while it was read; try again", from.From)
		}
		return err
	}})
	return nil
}

// certificates copies what AWS IoT knows the device by to where picketd's user may read it.
func (p *Plan) certificates(o Options, c *config.Config) {
	r := &c.AWS.RoleAlias
	for _, f := range []struct {
		path *string
		what string
		mode fs.FileMode
	}{
		{&r.Certificate, "the device's certificate", 0o644}, {&r.Key, "the device's key", 0o600}, {&r.CA, "who signs AWS IoT's certificates", 0o644},
	} {
		if *f.path == "" {
			continue
		}
		text, err := readText(*f.path)
		if err != nil {
			p.note(*f.path, "cannot be read, so no credentials can be had from AWS IoT until it is there: %v", err)
			continue
		}
		base, ext := filepath.Base(*f.path), filepath.Ext(*f.path)
		to := p.unused(filepath.Join(o.Etc, "edge-manager"), strings.TrimSuffix(base, ext), ext)
		p.Files = append(p.Files, File{Path: to, Mode: f.mode, What: f.what, write: func(_ context.Context, w io.Writer) error {
			_, err := w.Write(text)
			return err
		}})
		*f.path = to
		if f.mode == 0o600 {
			p.note(to, "must be readable for the user that picketd runs as, and for nobody else: chown it")
		}
	}
}

// withoutEquivalent notes what is not taken over, and why.
func (p *Plan) withoutEquivalent(c *config.Config, s *service) {
	l := c.Legacy
	for _, n := range []struct {
		key, value, says string
	}{
		{"root_certs_path", l.RootCertsPath, "signatures of the old service cannot be checked by anybody but it; models are trusted by the digests under trust.packages"},
		{"telemetry_libsystemd_path", l.TelemetryLibsystemd, "crashes are counted by systemd, and by the alert PicketRestarting"},
		{"db_module_path", l.DBModule, "there is no database; captured data waits in the spool"},
		{"deployment_lib_path", l.DeploymentLib, "deployments of the old service came to an end with it; a fleet of picket's own is in docs/fleet.md"},
		{"dlr_backend_options", l.DLRBackendOptions, "is not passed on; libdlr reads the same as environment variables, which the drop-in may set"},
	} {
		if n.value != "" {
			p.note(n.key, "is %s: %s", n.value, n.says)
		}
	}
	p.note("capture_data_buffer_size", "and batch_size have no equivalent: what is captured waits on disk, up to capture.max_bytes (%v)", c.Capture.MaxBytes)
	for _, w := range c.Warnings {
		p.note("agent's configuration", "%s", w)
	}
	if s == nil {
		p.note("unit", "none was named (--unit), so who ran the agent is not known")
		return
	}
	for _, one := range s.environment {
		if name, _, _ := strings.Cut(one, "="); !takenOver(name) {
			p.note(name, "of the agent's environment is not taken over")
		}
	}
	if s.user == "" || s.user == "root" || s.user == "0" {
		p.note("User", "the agent ran as root, picketd does not: clients of other users than root need the group picket (or sockets.agent.group), and their System V segments must be readable for others (mode 0444), unless User=root is put into the drop-in")
	}
}

// needs are what the new configuration asks of picketd's unit.
func (p *Plan) needs(o Options, c *config.Config) needs {
	n := needs{network: c.Capture.Destination.Bucket != ""}
	reads := []string{}
	for _, m := range p.Models {
		reads = append(reads, m.Path)
	}
	writes := []string{}
	if p.Socket != "" {
		writes = append(writes, filepath.Dir(p.Socket))
	}
	if dir := c.Capture.Destination.Directory; dir != "" {
		writes = append(writes, dir)
	}
	for _, dir := range append(reads, writes...) {
		n.tmp = n.tmp || within(dir, "/tmp")
		n.home = n.home || within(dir, "/home") || within(dir, "/root")
	}
	for _, dir := range writes {
		if dir != o.Sockets && !within(dir, o.State) && !slices.Contains(n.write, dir) {
			n.write = append(n.write, dir)
		}
	}
	return n
}

// within tells whether a path is dir or below it; both are clean.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// Write writes the files below prefix; empty for where they belong. One that is there already with another content is an error and
// nothing is written, unless replace is set: then it is kept with .old behind its name.
func (p *Plan) Write(ctx context.Context, prefix string, replace bool) error {
	if !replace {
		for _, f := range p.Files {
			path := filepath.Join(prefix, f.Path)
			if old, err := readText(path); err == nil && f.Text != "" && string(old) == f.Text {
				continue
			}
			if _, err := os.Lstat(path); err == nil && f.Text != "" {
				return fmt.Errorf("%s is there already; --replace writes the new one, and keeps that as %s.old", path, path)
			} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("looking for %s: %w", path, err)
			}
		}
	}
	for _, f := range p.Files {
		if err := f.put(ctx, filepath.Join(prefix, f.Path)); err != nil {
			return fmt.Errorf("writing %s: %w", filepath.Join(prefix, f.Path), err)
		}
	}
	return nil
}

// put writes the file whole, or not at all.
func (f *File) put(ctx context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.Replace(path, f.Mode, func(to *os.File) error {
		if err := f.write(ctx, to); err != nil || f.Text == "" {
			return err
		}
		if old, err := readText(path); err == nil && string(old) != f.Text {
			return os.Rename(path, path+".old")
		}
		return nil
	})
}
