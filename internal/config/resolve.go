package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// The environment variables Resolve reads. A variable that is set but empty
// counts as not set.
const (
	EnvSockets      = "PICKET_SOCKETS"
	EnvBackend      = "PICKET_BACKEND"
	EnvONNXRuntime  = "PICKET_ONNXRUNTIME"
	EnvCPUMask      = "PICKET_CPU_MASK"
	EnvInstanceType = "PICKET_INSTANCE_TYPE"
	EnvIMDS         = "PICKET_IMDS"
	// EnvState is systemd's, for a unit with StateDirectory=. It is the default of
	// Config.StateDir and weaker than the file; of several directories the first is
	// taken.
	EnvState = "STATE_DIRECTORY"
)

// Flags are the command line's wishes; a zero field was not given.
type Flags struct {
	// Config is the file to read (--config, -c); empty for none.
	Config string
	// SocketsDir puts all sockets there (--sockets).
	SocketsDir string
	// AgentSocket is the agent protocol's socket (-a). Alone it replaces the
	// configured ones of every protocol, as the Edge Manager agent had one;
	// together with SocketsDir all exist, so that old clients and `picket
	// --sockets` each find theirs.
	AgentSocket string
	// StateDir is Config.StateDir (--state).
	StateDir string
	// Force is Sockets.Force (-f).
	Force bool
	// Unsigned is Config.Unsigned (--unsigned).
	Unsigned bool
	// MaxMessage is Limits.MaxMessage as text (-m); a bare number is bytes, as the
	// Edge Manager agent had it.
	MaxMessage string
	// Models are "NAME=PATH" (--model, repeatable), loaded after the file's. A name
	// the file has too gets this path and keeps its other settings.
	Models []string
}

// Resolve returns the configuration that the defaults, the file named in flags,
// the environment and the flags make together, in this order of precedence,
// validated, with all paths absolute. getenv is os.Getenv or a test's. The error
// has one line per mistake.
func Resolve(flags Flags, getenv func(string) string) (*Config, error) {
	c, from := Default(), origin{}
	if flags.Config != "" {
		var err error
		if c, from, err = read(flags.Config); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(c.applyEnv(getenv, from), c.applyFlags(flags, from)); err != nil {
		return nil, err
	}
	c.captureAsLegacy()
	if err := c.validate(from); err != nil {
		return nil, err
	}
	for _, paths := range [][]string{c.Sockets.Agent.Paths, c.Sockets.OIP.Paths, c.Sockets.Lane.Paths, c.Sockets.LaneStream.Paths, c.Sockets.Control.Paths} {
		for i, path := range paths {
			paths[i] = c.Sockets.locate(path)
		}
	}
	return c, nil
}

func (c *Config) applyEnv(getenv func(string) string, from origin) error {
	var mistakes []error
	if dir := getenv(EnvSockets); dir != "" {
		if err := c.moveSockets(dir, from); err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s: %w", EnvSockets, err))
		}
	}
	for _, v := range []struct {
		name, path string
		to         *string
	}{
		{EnvBackend, "backends.force", &c.Backends.Force},
		{EnvONNXRuntime, "backends.onnxruntime", &c.Backends.ONNXRuntime},
		{EnvCPUMask, "host.cpu_mask", &c.Host.CPUMask},
		{EnvInstanceType, "host.instance_type", &c.Host.InstanceType},
	} {
		if value := getenv(v.name); value != "" {
			*v.to = value
			from.replaced(v.path)
		}
	}
	if first, _, _ := strings.Cut(getenv(EnvState), ":"); c.StateDir == "" {
		c.StateDir = first
	}
	if err := c.Tracing.applyEnv(getenv, from); err != nil {
		mistakes = append(mistakes, err)
	}
	switch value := getenv(EnvIMDS); strings.ToLower(value) {
	case "":
	case "on":
		c.Host.IMDS = true
	case "off":
		c.Host.IMDS = false
	default:
		mistakes = append(mistakes, fmt.Errorf("%s: %s is neither on nor off", EnvIMDS, quote(value)))
	}
	return errors.Join(mistakes...)
}

func (c *Config) applyFlags(flags Flags, from origin) error {
	var mistakes []error
	if flags.SocketsDir != "" {
		if err := c.moveSockets(flags.SocketsDir, from); err != nil {
			mistakes = append(mistakes, fmt.Errorf("--sockets: %w", err))
		}
	}
	if flags.AgentSocket != "" {
		path, err := filepath.Abs(flags.AgentSocket)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("-a: %w", err))
		}
		if flags.SocketsDir == "" {
			c.Sockets.Agent.Paths, c.Sockets.OIP.Paths, c.Sockets.Lane.Paths, c.Sockets.LaneStream.Paths, c.Sockets.Control.Paths = nil, nil, nil, nil, nil
			from.replaced("sockets.agent.paths")
			from.replaced("sockets.oip.paths")
			from.replaced("sockets.lane.paths")
			from.replaced("sockets.lane_stream.paths")
			from.replaced("sockets.control.paths")
		}
		if !slices.Contains(c.Sockets.Agent.Paths, path) {
			c.Sockets.Agent.Paths = append(c.Sockets.Agent.Paths, path)
		}
	}
	if flags.StateDir != "" {
		path, err := filepath.Abs(flags.StateDir)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("--state: %w", err))
		}
		c.StateDir = path
		from.replaced("state_dir")
	}
	c.Sockets.Force = c.Sockets.Force || flags.Force
	c.Unsigned = c.Unsigned || flags.Unsigned
	if flags.MaxMessage != "" {
		size, err := ParseSize(flags.MaxMessage)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("-m: %w", err))
		}
		c.Limits.MaxMessage = size
		from.replaced("limits.max_message")
	}
	seen := map[string]bool{}
	for _, text := range flags.Models {
		name, path, found := strings.Cut(text, "=")
		switch {
		case !found || name == "" || path == "":
			mistakes = append(mistakes, fmt.Errorf("--model %s must be NAME=PATH, such as fraud=/var/lib/picket/models/fraud", quote(text)))
		case seen[name]:
			mistakes = append(mistakes, fmt.Errorf("--model: %s is named twice; give one of the two another name", name))
		default:
			if err := c.addModel(name, path, from); err != nil {
				mistakes = append(mistakes, fmt.Errorf("--model: %w", err))
			}
		}
		seen[name] = true
	}
	return errors.Join(mistakes...)
}

// moveSockets puts every socket into one directory under its usual name, the
// ones configured elsewhere included.
func (c *Config) moveSockets(dir string, from origin) error {
	if strings.HasPrefix(dir, "tcp://") {
		return fmt.Errorf("%s is where clients ask: the daemon's own ports are in tcp.listen", dir)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	c.Sockets.Dir = dir
	c.Sockets.Agent.Paths = []string{filepath.Join(dir, agentSocketName)}
	c.Sockets.OIP.Paths = []string{filepath.Join(dir, oipSocketName)}
	c.Sockets.Lane.Paths = []string{filepath.Join(dir, laneSocketName)}
	c.Sockets.LaneStream.Paths = []string{filepath.Join(dir, laneStreamSocketName)}
	c.Sockets.Control.Paths = []string{filepath.Join(dir, controlSocketName)}
	from.replaced("sockets.dir")
	from.replaced("sockets.agent.paths")
	from.replaced("sockets.lane.paths")
	from.replaced("sockets.lane_stream.paths")
	from.replaced("sockets.control.paths")
	from.replaced("sockets.oip.paths")
	return nil
}

func (c *Config) addModel(name, path string, from origin) error {
	if !c.isPackageName(path) {
		var err error
		if path, err = filepath.Abs(path); err != nil {
			return err
		}
	}
	if i := slices.IndexFunc(c.Models, func(m Model) bool { return m.Name == name }); i >= 0 {
		c.Models[i].Path = path
		from.replaced(fmt.Sprintf("models[%d].path", i))
		return nil
	}
	from.replaced(fmt.Sprintf("models[%d]", len(c.Models)))
	c.Models = append(c.Models, Model{Name: name, Path: path, Run: c.ModelDefaults})
	return nil
}
