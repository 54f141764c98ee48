package config

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/picket-ml/picket/internal/cloud"
)

// problem is one thing wrong with a value, and the path of its key.
type problem struct {
	path string
	text string
}

// Validate reports everything that is wrong with c, one sentence per value with
// its key path, joined. It touches no file.
func (c *Config) Validate() error { return c.validate(origin{}) }

// validate puts file and line before the sentences about what came from a file.
func (c *Config) validate(from origin) error {
	var mistakes []error
	for _, p := range c.problems() {
		mistakes = append(mistakes, fmt.Errorf("%s%s: %s", from.of(p.path), p.path, p.text))
	}
	return errors.Join(mistakes...)
}

var (
	// The agent's form of a model name.
	modelName = regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9])*$`)
	// Which backends exist is for the engine to say; this is how they are written.
	backendName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)
	accountName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.@-]{0,63}$`) // a user or a group
	// Which of these there are is for the backend to say.
	gpuList  = regexp.MustCompile(`^(all|(GPU|MIG)-[0-9A-Za-z/-]+(, *(GPU|MIG)-[0-9A-Za-z/-]+)*)$`)
	provider = regexp.MustCompile(`^(auto|cpu|openvino|(cuda|tensorrt)(:[0-9]{1,3})?)$`)
	// Which CPUs there are is for the engine to say, too.
	cpuList = regexp.MustCompile(`^[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*$`)
)

const (
	maxModelName = 255
	// maxSocketPath is what fits into sockaddr_un with its final zero byte.
	maxSocketPath = 107
	// No message above this size can be encoded as protobuf.
	maxMessage = Size(2<<30 - 1)
	minMessage = Size(64 << 10)
	// maxPinned is far above what a libdlr model works in.
	maxPinned = Size(16 << 30)
	// maxGPUMemory is far above what any GPU has.
	maxGPUMemory = Size(16 << 40)
	// A GPU that is asked more often does little else; one that is asked less often is
	// not watched.
	minWatch = time.Second
	maxWatch = time.Hour
)

// checker collects problems.
type checker struct{ problems []problem }

func (k *checker) add(path, format string, args ...any) {
	k.problems = append(k.problems, problem{path, fmt.Sprintf(format, args...)})
}

func (k *checker) between(path string, value, low, high int) {
	if value < low || value > high {
		k.add(path, "%d is outside %d to %d", value, low, high)
	}
}

func (k *checker) durationUpTo(path string, value, high time.Duration) {
	if value < 0 || value > high {
		k.add(path, "%v is outside 0s to %v", value, high)
	}
}

func (k *checker) absolute(path, value string) {
	switch {
	case strings.ContainsRune(value, 0):
		k.add(path, "contains a zero byte")
	case !filepath.IsAbs(value):
		k.add(path, "%s must be an absolute path", quote(value))
	}
}

func (k *checker) cpus(path, value string) {
	if value != "" && !cpuList.MatchString(value) {
		k.add(path, "%s is not a list of CPUs, such as 0-3,6", quote(value))
	}
}

func (k *checker) backend(path, value string) {
	if value != "" && !backendName.MatchString(value) {
		k.add(path, "%s is not the name of a backend: `picket info` lists them", quote(value))
	}
}

func (c *Config) problems() []problem {
	k := &checker{}
	c.checkSockets(k)
	c.TCP.check(k)
	c.checkModels(k)
	for i, root := range c.ModelRoots {
		k.absolute(fmt.Sprintf("model_roots[%d]", i), root)
	}
	if c.Packages != "" {
		k.absolute("packages", c.Packages)
	}
	if _, _, err := cloud.ParseS3(c.PackagesFrom); c.PackagesFrom != "" && err != nil {
		k.add("packages_from", "%v", err)
	}
	c.Trust.check(k)
	c.Fleet.check(k, c.StateDir)
	c.AWS.Check(func(key, sentence string) { k.add("aws."+key, "%s", sentence) })
	for _, f := range c.AWS.Files() {
		if f[1] != "" {
			k.absolute("aws."+f[0], f[1])
		}
	}
	if c.StateDir != "" {
		k.absolute("state_dir", c.StateDir)
	}
	k.cpus("cores", c.Cores)
	c.checkBackends(k)
	c.checkGPU(k)
	if c.Limits.MaxMessage < minMessage || c.Limits.MaxMessage > maxMessage {
		k.add("limits.max_message", "%v is outside %v to %v", c.Limits.MaxMessage, minMessage, maxMessage)
	}
	if c.Limits.MaxTensor < 1 || c.Limits.MaxTensor > 1<<40 {
		k.add("limits.max_tensor", "%v is outside 1B to %v", c.Limits.MaxTensor, Size(1<<40))
	}
	k.between("limits.max_connections", c.Limits.MaxConnections, 1, 1_000_000)
	k.between("limits.max_connections_per_user", c.Limits.MaxConnectionsPerUser, 0, 1_000_000)
	k.between("limits.max_rings", c.Limits.MaxRings, 0, 4096)
	if c.Limits.MaxInFlight < minMessage || c.Limits.MaxInFlight > 1<<40 {
		k.add("limits.max_in_flight", "%v is outside %v to %v", c.Limits.MaxInFlight, minMessage, Size(1<<40))
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		k.add("log.format", "%s is neither text nor json", quote(c.Log.Format))
	}
	c.Tracing.check(k)
	c.CloudWatch.check(k)
	c.Drift.check(k)
	c.Capture.check(k, c.StateDir)
	k.durationUpTo("shutdown.grace", c.Shutdown.Grace, time.Hour)
	if c.Restart.Timeout < time.Second || c.Restart.Timeout > 24*time.Hour {
		k.add("restart.timeout", "%v is outside 1s to 24h0m0s", c.Restart.Timeout)
	}
	return k.problems
}

var (
	digest     = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	oldVersion = regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9])*@[a-zA-Z0-9 _.]+$`)
)

// isPackageName tells whether the path of a model is to be looked for in Packages.
func (c *Config) isPackageName(path string) bool {
	return c.Packages != "" && (modelName.MatchString(path) || oldVersion.MatchString(path))
}

// check looks at no file.
func (t Trust) check(k *checker) {
	for _, list := range []struct {
		path  string
		files []string
	}{{"trust.keys", t.Keys}, {"trust.roots", t.Roots}} {
		for i, file := range list.files {
			k.absolute(fmt.Sprintf("%s[%d]", list.path, i), file)
		}
	}
	if t.Revoked != "" {
		k.absolute("trust.revoked", t.Revoked)
	}
	if len(t.Roots) > 0 && len(t.Names) == 0 {
		k.add("trust.names", "is empty, so nobody that the roots vouch for may sign: name who may, or \"*\" for all")
	}
	for i, name := range t.Names {
		if name == "" {
			k.add(fmt.Sprintf("trust.names[%d]", i), "is empty")
		}
	}
	for i, d := range t.Packages {
		if !digest.MatchString(d) {
			k.add(fmt.Sprintf("trust.packages[%d]", i), "%s is no digest: write sha256: and 64 hexadecimal digits", quote(d))
		}
	}
	for i, v := range t.Rollback {
		if !oldVersion.MatchString(v) {
			k.add(fmt.Sprintf("trust.rollback[%d]", i), "%s is no package: write its name, @ and the version, such as fraud@3", quote(v))
		}
	}
	switch t.Expired {
	case "known", "refuse", "allow":
	default:
		k.add("trust.expired", "%s is none of known, refuse and allow", quote(t.Expired))
	}
}

func (c *Config) checkSockets(k *checker) {
	k.absolute("sockets.dir", c.Sockets.Dir)
	if len(c.Sockets.Agent.Paths) == 0 && !c.TCP.Agent {
		k.add("sockets.agent.paths", "is empty: picket could not talk to the daemon; tcp.agent would be another way")
	}
	seen := map[string]bool{}
	c.Sockets.check(k, "sockets.agent", c.Sockets.Agent.Socket, seen)
	c.Sockets.check(k, "sockets.oip", c.Sockets.OIP.Socket, seen)
	c.Sockets.check(k, "sockets.lane", c.Sockets.Lane, seen)
	c.Sockets.check(k, "sockets.lane_stream", c.Sockets.LaneStream, seen)
	c.Sockets.check(k, "sockets.control", c.Sockets.Control, seen)
}

// check looks at one protocol's listeners; seen are the paths of those before.
func (s Sockets) check(k *checker, section string, socket Socket, seen map[string]bool) {
	for i, path := range socket.Paths {
		key := fmt.Sprintf("%s.paths[%d]", section, i)
		full := s.locate(path)
		switch {
		case path == "" || strings.HasSuffix(path, "/"):
			k.add(key, "%s is not the path of a socket file", quote(path))
		case strings.ContainsRune(path, 0):
			k.add(key, "contains a zero byte")
		case strings.HasPrefix(path, "@"):
			k.add(key, "%s has no file and so no file mode: use a path", quote(path))
		case len(full) > maxSocketPath:
			k.add(key, "is %d bytes long with its directory, at most %d fit a Unix socket", len(full), maxSocketPath)
		case seen[full]:
			k.add(key, "%s is listed twice", quote(path))
		}
		seen[full] = true
	}
	if socket.Mode&0o600 != 0o600 {
		k.add(section+".mode", "%04o would lock out the daemon's own user", uint32(socket.Mode))
	}
	if socket.Group != "" && !accountName.MatchString(socket.Group) {
		k.add(section+".group", "%s is not the name or number of a group", quote(socket.Group))
	}
	for i, user := range socket.AllowUsers {
		if !accountName.MatchString(user) {
			k.add(fmt.Sprintf("%s.allow_users[%d]", section, i), "%s is not the name or number of a user", quote(user))
		}
	}
	for i, group := range socket.AllowGroups {
		if !accountName.MatchString(group) {
			k.add(fmt.Sprintf("%s.allow_groups[%d]", section, i), "%s is not the name or number of a group", quote(group))
		}
	}
}

// check looks at no file and resolves no name.
func (t TCP) check(k *checker) {
	for i, address := range t.Listen {
		host, port, err := net.SplitHostPort(address)
		if err != nil || port == "" || strings.ContainsAny(host, " /\x00") {
			k.add(fmt.Sprintf("tcp.listen[%d]", i), "%s is not an address with a port, such as 127.0.0.1:8080", quote(address))
		}
	}
	for _, f := range []struct{ path, value string }{
		{"tcp.certificate", t.Certificate}, {"tcp.key", t.Key}, {"tcp.client_ca", t.ClientCA},
	} {
		if f.value != "" {
			k.absolute(f.path, f.value)
		}
	}
	if t.Agent && len(t.Listen) == 0 {
		k.add("tcp.agent", "needs tcp.listen, which says on which ports")
	}
	if (t.Certificate == "") != (t.Key == "") {
		k.add("tcp.key", "and tcp.certificate need each other")
	}
	if t.ClientCA != "" && t.Certificate == "" {
		k.add("tcp.client_ca", "needs tcp.certificate and tcp.key: without encryption clients show no certificate")
	}
}

func (c *Config) checkModels(k *checker) {
	c.ModelDefaults.check(k, "model_defaults")
	seen := map[string]bool{}
	for i, model := range c.Models {
		path := fmt.Sprintf("models[%d]", i)
		switch {
		case model.Name == "":
			k.add(path+".name", "is missing")
		case len(model.Name) > maxModelName:
			k.add(path+".name", "is longer than %d bytes", maxModelName)
		case !modelName.MatchString(model.Name):
			k.add(path+".name", "%s is not a model name: letters, digits and inner hyphens are allowed", quote(model.Name))
		case seen[model.Name]:
			k.add(path+".name", "%s is used by two models", quote(model.Name))
		}
		seen[model.Name] = true
		switch {
		case model.Path == "":
			k.add(path+".path", "is missing")
		case !c.isPackageName(model.Path):
			k.absolute(path+".path", model.Path)
		}
		model.check(k, path)
	}
}

func (r Run) check(k *checker, path string) {
	k.backend(path+".backend", r.Backend)
	k.between(path+".expected_rows", r.ExpectedRows, 1, 1<<20)
	k.between(path+".instances", r.Instances, 0, 1024)
	k.between(path+".threads", r.Threads, 0, 1024)
	k.between(path+".max_batch_rows", r.MaxBatchRows, 0, 1<<20)
	k.durationUpTo(path+".batch_delay", r.BatchDelay, time.Minute)
	k.between(path+".max_queue", r.MaxQueue, 1, 1<<20)
	k.durationUpTo(path+".timeout", r.Timeout, 24*time.Hour)
	if r.Priority != "high" && r.Priority != "normal" && r.Priority != "low" {
		k.add(path+".priority", "%s is neither high, normal nor low", quote(r.Priority))
	}
	k.cpus(path+".cores", r.Cores)
	if r.Provider != "" && !provider.MatchString(r.Provider) {
		k.add(path+".provider", "%s is neither auto, cpu, openvino, cuda nor tensorrt, which may have the number of a GPU, as in cuda:1", quote(r.Provider))
	}
	if r.GPUs != "" && !gpuList.MatchString(r.GPUs) {
		k.add(path+".gpus", "%s is neither all nor a list of UUIDs of GPUs or MIG instances with commas between them, such as nvidia-smi -L prints", quote(r.GPUs))
	}
	if r.GPUs != "" && strings.Contains(r.Provider, ":") {
		k.add(path+".gpus", "names GPUs, and so does provider: %s; leave its number out", quote(r.Provider))
	}
	r.Capture.check(k, path+".capture")
}

func (c *Config) checkBackends(k *checker) {
	k.backend("backends.force", c.Backends.Force)
	for i, name := range c.Backends.Disable {
		path := fmt.Sprintf("backends.disable[%d]", i)
		if name == "" {
			k.add(path, "is empty")
		}
		k.backend(path, name)
	}
	if c.Backends.Force != "" && slices.Contains(c.Backends.Disable, c.Backends.Force) {
		k.add("backends.force", "%s is also disabled, so no model could run", quote(c.Backends.Force))
	}
	if c.Backends.LibDLR != "" {
		k.absolute("backends.libdlr", c.Backends.LibDLR)
	}
	if c.Backends.ONNXRuntime != "" {
		k.absolute("backends.onnxruntime", c.Backends.ONNXRuntime)
	}
	switch pinned := c.Backends.LibDLRPinned; {
	case pinned < 0 || pinned > maxPinned:
		k.add("backends.libdlr_pinned", "is %v, it must be from 0B to %v", pinned, maxPinned)
	case pinned > 0 && !c.Backends.LibDLRAligned:
		k.add("backends.libdlr_pinned", "needs backends.libdlr_aligned: true")
	}
}

func (c *Config) checkGPU(k *checker) {
	for i, uuid := range c.GPU.Devices {
		if !strings.HasPrefix(uuid, "GPU-") && !strings.HasPrefix(uuid, "MIG-") {
			k.add(fmt.Sprintf("gpu.devices[%d]", i), "%s is no UUID of a GPU or a MIG instance, such as nvidia-smi -L prints", quote(uuid))
		}
	}
	if c.GPU.Library != "" {
		k.absolute("gpu.library", c.GPU.Library)
	}
	for _, limit := range []struct {
		path string
		is   Size
	}{{"gpu.memory", c.GPU.Memory}, {"gpu.pinned", c.GPU.Pinned}} {
		if limit.is < 0 || limit.is > maxGPUMemory {
			k.add(limit.path, "is %v, it must be from 0B to %v", limit.is, maxGPUMemory)
		}
	}
	if !slices.Contains([]string{"auto", "spin", "sleep"}, c.GPU.Wait) {
		k.add("gpu.wait", "is %s, it must be auto, spin or sleep", quote(c.GPU.Wait))
	}
	if w := c.GPU.Watch; w != 0 && (w < minWatch || w > maxWatch) {
		k.add("gpu.watch", "is %v, it must be 0s or from %v to %v", w, minWatch, maxWatch)
	}
}

// locate puts a relative socket path below Dir.
func (s Sockets) locate(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(s.Dir, path)
}
