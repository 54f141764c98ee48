package config

import (
	"io/fs"
	"log/slog"
	"time"

	"github.com/picket-ml/picket/internal/cloud"
)

// Config is the daemon's configuration, complete and validated when it comes
// from Resolve. The yaml tags are the keys of the file; example.yaml documents
// them with their defaults.
type Config struct {
	Sockets       Sockets  `yaml:"sockets"`
	Models        []Model  `yaml:"models"`
	ModelDefaults Run      `yaml:"model_defaults"`
	ModelRoots    []string `yaml:"model_roots"`
	// Packages is the directory in which packages are found by their names,
	// absolute; empty for none.
	Packages string `yaml:"packages"`
	// PackagesFrom is where in S3 they come from, s3://bucket/prefix; empty for
	// nowhere. `picket package pull` reads it, the daemon fetches nothing by itself.
	PackagesFrom string `yaml:"packages_from"`
	Trust        Trust  `yaml:"trust"`
	// StateDir is where the daemon keeps what it found out, absolute; empty: it
	// starts afresh every time.
	StateDir string `yaml:"state_dir"`
	// Unsigned allows packages without a signature. A compiled model is code.
	Unsigned bool `yaml:"unsigned"`
	// StrictTensors refuses requests whose metadata disagrees with the model even
	// when the number of bytes fits. Old clients need it off.
	StrictTensors bool `yaml:"strict_tensors"`
	// Cores are the CPUs that all threads of the daemon keep to but those of models
	// with Cores of their own, such as "0-3,6"; empty for all.
	Cores    string   `yaml:"cores"`
	Backends Backends `yaml:"backends"`
	GPU      GPU      `yaml:"gpu"`
	TCP      TCP      `yaml:"tcp"`
	Limits   Limits   `yaml:"limits"`
	Log      Log      `yaml:"log"`
	Tracing  Tracing  `yaml:"tracing"`
	Fleet    Fleet    `yaml:"fleet"`
	Capture  Capture  `yaml:"capture"`
	// AWS is how AWS is reached, by whatever transfers something.
	AWS cloud.Options `yaml:"aws"`
	// CloudWatch and Drift are for those who watch the daemon and its models.
	CloudWatch CloudWatch `yaml:"cloudwatch"`
	Drift      Drift      `yaml:"drift"`
	Host       Host       `yaml:"host"`
	Shutdown   Shutdown   `yaml:"shutdown"`
	Restart    Restart    `yaml:"restart"`

	// Legacy is what an Edge Manager file said beyond the settings above; nil
	// when the file was not one.
	Legacy *Legacy `yaml:"-"`
	// Warnings are sentences to be logged at start.
	Warnings []string `yaml:"-"`
}

// Sockets says where the daemon listens and who may connect.
type Sockets struct {
	// Dir holds every socket that is given without a directory of its own.
	Dir string `yaml:"dir"`
	// Force removes a file that is in a socket's place without asking whether
	// someone still answers on it. A socket nobody answers on needs no force.
	Force bool          `yaml:"force"`
	Agent ControlSocket `yaml:"agent"`
	// OIP is the Open Inference Protocol, gRPC and HTTP.
	OIP ControlSocket `yaml:"oip"`
	// Lane is the binary protocol on sockets of type SOCK_SEQPACKET, LaneStream the
	// same on sockets of type SOCK_STREAM.
	Lane       Socket `yaml:"lane"`
	LaneStream Socket `yaml:"lane_stream"`
	// Control has what Agent and OIP have, loading and unloading included.
	Control Socket `yaml:"control"`
}

// Socket is one protocol's listeners.
type Socket struct {
	// Paths are absolute after Resolve; in a file, relative ones lie below
	// Sockets.Dir.
	Paths []string `yaml:"paths"`
	// Mode is the socket files' permission bits.
	Mode fs.FileMode `yaml:"mode"`
	// Group owns the socket files: a name or a number, or empty for the daemon's.
	Group string `yaml:"group"`
	// AllowUsers and AllowGroups are whose processes may connect, names or numbers;
	// both empty for everybody whom the mode lets.
	AllowUsers  []string `yaml:"allow_users"`
	AllowGroups []string `yaml:"allow_groups"`
}

// ControlSocket is a Socket over which models may be loaded and unloaded, if
// Control says so.
type ControlSocket struct {
	Socket  `yaml:",inline"`
	Control bool `yaml:"control"`
}

// Model is one model that should be loaded.
type Model struct {
	Name string `yaml:"name"`
	// Path is the package or artifact, absolute, or the name of a package in
	// Config.Packages, with or without a version. It was chosen by the operator, so
	// ModelRoots does not apply.
	Path string `yaml:"path"`
	Run  `yaml:",inline"`
}

// Run is how one model is run. A model starts from Config.ModelDefaults.
type Run struct {
	// Backend forces one by name; empty lets the engine choose.
	Backend string `yaml:"backend"`
	// ExpectedRows is how many rows a request is expected to have; the engine
	// chooses the backend that is the fastest with that many.
	ExpectedRows int `yaml:"expected_rows"`
	// Instances are parallel executors; 0 lets the engine choose.
	Instances int `yaml:"instances"`
	// Threads is how many threads one execution may use; 0 for as many as there are
	// cores.
	Threads int `yaml:"threads"`
	// MaxBatchRows bounds the rows gathered into one execution; 0 lets the engine
	// choose.
	MaxBatchRows int `yaml:"max_batch_rows"`
	// BatchDelay is how long an idle instance waits for company; 0 is not at all.
	BatchDelay time.Duration `yaml:"batch_delay"`
	// MaxQueue is how many requests may wait; more are refused at once.
	MaxQueue int `yaml:"max_queue"`
	// Timeout is the deadline of requests that bring none; 0 is none.
	Timeout time.Duration `yaml:"timeout"`
	// Pin locks working memory where the limits allow.
	Pin bool `yaml:"pin"`
	// Explain lets requests ask what each feature has contributed to an answer.
	Explain bool `yaml:"explain"`
	// Priority is that of requests that name none: "high", "normal" or "low".
	Priority string `yaml:"priority"`
	// Cores are the CPUs that the model's runs keep to, such as "0-3,6"; empty for
	// all. The engine checks them against those that the process may use.
	Cores string `yaml:"cores"`
	// Provider is what backend onnx runs the model on, such as "cpu" and "cuda:0"; empty
	// lets it choose.
	Provider string `yaml:"provider"`
	// GPUs are those that the model's instances are on where it runs on GPUs: "all", or
	// UUIDs separated by commas; empty for the one with the fewest models.
	GPUs string `yaml:"gpus"`
	// Capture is which of its requests are captured.
	Capture Sampling `yaml:"capture"`
}

// Trust says who may sign packages.
type Trust struct {
	// Keys are PEM files of public keys that may sign, absolute.
	Keys []string `yaml:"keys"`
	// Roots are PEM files of certificates that vouch for others, absolute, and Names
	// those that a certificate they vouch for must have one of; "*" is any.
	Roots []string `yaml:"roots"`
	Names []string `yaml:"names"`
	// Revoked is a file that lists what is trusted no longer, absolute; empty for
	// none.
	Revoked string `yaml:"revoked"`
	// Packages are digests of archives of the old service, whose signatures cannot
	// be checked.
	Packages []string `yaml:"packages"`
	// Rollback are packages, as name@version, that may be loaded although a higher
	// version was.
	Rollback []string `yaml:"rollback"`
	// Expired is "known", "refuse" or "allow".
	Expired string `yaml:"expired"`
}

// Configured tells whether anybody is trusted at all.
func (t Trust) Configured() bool { return len(t.Keys)+len(t.Roots)+len(t.Packages) > 0 }

// Backends narrows the engine's choice.
type Backends struct {
	// Force is the one backend to use for every model that names none.
	Force string `yaml:"force"`
	// Disable are backends never to use.
	Disable []string `yaml:"disable"`
	// LibDLR is the libdlr.so to prefer over the artifact's own and the system's;
	// absolute, empty for none.
	LibDLR string `yaml:"libdlr"`
	// LibDLRAligned has libdlr take its memory aligned as Picket's own.
	LibDLRAligned bool `yaml:"libdlr_aligned"`
	// LibDLRPinned is how much of that memory is locked; 0 for none.
	LibDLRPinned Size `yaml:"libdlr_pinned"`
	// ONNXRuntime is the libonnxruntime.so to prefer over the system's; absolute, empty
	// for none.
	ONNXRuntime string `yaml:"onnxruntime"`
}

// GPU is which GPUs models may run on, what they take of them, and how they are watched.
type GPU struct {
	// Devices are UUIDs of GPUs or MIG instances; empty for all that the driver shows.
	Devices []string `yaml:"devices"`
	// Library is the libcuda.so.1 to use, absolute; empty for the system's.
	Library string `yaml:"library"`
	// Memory and Pinned are what is taken at most of each device, and of main memory
	// for its copies; 0 for no limit.
	Memory Size `yaml:"memory"`
	Pinned Size `yaml:"pinned"`
	// Wait is how threads wait for a GPU: auto, spin or sleep.
	Wait string `yaml:"wait"`
	// Watch is how often the health of the GPUs is asked for; 0 for never.
	Watch time.Duration `yaml:"watch"`
}

// TCP is where the Open Inference Protocol is served beside its Unix sockets, and
// what clients may do there.
type TCP struct {
	// Listen are addresses with a port, such as 127.0.0.1:8080; none by default.
	Listen []string `yaml:"listen"`
	// Certificate and Key are PEM files, absolute; both empty for no encryption.
	// They are read again when they change.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// ClientCA is a PEM file, absolute: clients must show a certificate that one of
	// these authorities has signed. Empty asks for none.
	ClientCA string `yaml:"client_ca"`
	// Agent serves the interface of the Edge Manager agent on the same ports.
	Agent bool `yaml:"agent"`
	// Control allows loading and unloading models.
	Control bool `yaml:"control"`
	// SharedMemory allows the daemon's own user's POSIX shared memory.
	SharedMemory bool `yaml:"shared_memory"`
}

// Limits bound what clients can ask of the daemon.
type Limits struct {
	// MaxMessage is the largest request and answer on a socket.
	MaxMessage Size `yaml:"max_message"`
	// MaxTensor is the most one input tensor may take from shared memory.
	MaxTensor Size `yaml:"max_tensor"`
	// MaxConnections is how many clients may be connected to one socket.
	MaxConnections int `yaml:"max_connections"`
	// MaxConnectionsPerUser is how many of them may be of one user; 0 for all.
	MaxConnectionsPerUser int `yaml:"max_connections_per_user"`
	// MaxRings is how many clients of the lane may have a ring in shared memory.
	MaxRings int `yaml:"max_rings"`
	// MaxInFlight is how many bytes the requests that are worked on at a time may
	// take, over all protocols.
	MaxInFlight Size `yaml:"max_in_flight"`
}

// Log says what is written to standard error.
type Log struct {
	Level slog.Level `yaml:"level"`
	// Format is "text" or "json".
	Format string `yaml:"format"`
}

// Host corrects what the daemon finds out about its machine.
type Host struct {
	// IMDS allows asking the instance metadata service what this host is.
	IMDS bool `yaml:"imds"`
	// InstanceType is taken for granted when set, and nobody is asked.
	InstanceType string `yaml:"instance_type"`
	// CPUMask hides CPU features, in the form internal/hw parses and checks.
	CPUMask string `yaml:"cpu_mask"`
}

// Shutdown says how the daemon ends.
type Shutdown struct {
	// Grace is how long accepted requests may still take after a signal.
	Grace time.Duration `yaml:"grace"`
}

// Restart says how the daemon hands over to a new process of itself.
type Restart struct {
	// Timeout is how long the new process may take to be ready; then it is ended and
	// the old one serves on.
	Timeout time.Duration `yaml:"timeout"`
}

// Default returns what the daemon does without any file, environment or flag.
// Every call makes a new value.
func Default() *Config {
	return &Config{
		Sockets: Sockets{
			Dir:        DefaultSockets(),
			Agent:      ControlSocket{Socket{Paths: []string{agentSocketName}, Mode: 0o660}, true},
			OIP:        ControlSocket{Socket{Paths: []string{oipSocketName}, Mode: 0o660}, false},
			Lane:       Socket{Paths: []string{laneSocketName}, Mode: 0o660},
			LaneStream: Socket{Paths: []string{laneStreamSocketName}, Mode: 0o660},
			Control:    Socket{Paths: []string{controlSocketName}, Mode: 0o600},
		},
		Trust:         Trust{Expired: "known"},
		ModelDefaults: Run{ExpectedRows: 1, MaxQueue: 1024, Priority: "normal"},
		GPU:           GPU{Pinned: 1 << 30, Wait: "auto", Watch: 10 * time.Second},
		Limits:        Limits{MaxMessage: 80 << 20, MaxTensor: 1 << 30, MaxConnections: 1024, MaxRings: 64, MaxInFlight: 1 << 30},
		Log:           Log{Level: slog.LevelInfo, Format: "text"},
		Tracing:       Tracing{Protocol: "http", Sample: 0.01, Service: "picketd", Queue: 2048, Timeout: 10 * time.Second},
		Capture:       defaultCapture(),
		Fleet:         Fleet{Group: "default", Interval: time.Minute},
		CloudWatch:    defaultCloudWatch(),
		Drift:         defaultDrift(),
		Host:          Host{IMDS: true},
		Shutdown:      Shutdown{Grace: 10 * time.Second},
		Restart:       Restart{Timeout: 5 * time.Minute},
	}
}

// The protocols' files inside Sockets.Dir, where `picket --sockets DIR` looks for
// them.
const (
	agentSocketName      = "agent.sock"
	oipSocketName        = "oip.sock"
	laneSocketName       = "lane.sock"
	laneStreamSocketName = "lane-stream.sock"
	controlSocketName    = "control.sock"
)
