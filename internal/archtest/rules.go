package archtest

// Groups that several lines of the table share.
var (
	everything = []string{"..."}
	backend    = []string{"engine", "tensor", "internal/cores", "internal/dl", "internal/hw", "internal/ensemble", "internal/onnxwire", "internal/shap", "internal/cuda", "internal/cuda/devices", "cdlr", "backends/neo"}
	server     = []string{"engine", "tensor", "internal/lanewire", "internal/ring", "internal/api/...", "internal/shm", "internal/oserror", "internal/hw", "internal/rows", "internal/trace", "internal/capture", "internal/server/..."}

	// A backend or a server is tested on real artifacts, which are compiled by packaging/compile and opened by the real
	// backends. Only tests may reach that far.
	realParts = []string{"engine", "tensor", "tensor/*", "backends/...", "packaging/...", "internal/hw", "internal/ensemble"}
)

// moduleRules is the table: the arrows of docs/ARCHITECTURE.md, one line per package. The first line that matches wins.
var moduleRules = []rule{
	// The ground floor: nothing of ours below it.
	{pkg: "tensor", unsafe: true},
	{pkg: "tensor/*", imports: []string{"tensor"}, unsafe: true},
	{pkg: "cdlr", native: true, unsafe: true, tests: []string{"tensor"}},
	{pkg: "internal/dl", native: true, unsafe: true},
	// The CUDA driver, and a stand-in for it: C that tests compile.
	{pkg: "internal/cuda/cudatest", imports: []string{"internal/testkit"}, support: true},
	{pkg: "internal/cuda", imports: []string{"tensor", "internal/dl"}, tests: []string{"internal/testkit"}, native: true, unsafe: true},
	{pkg: "internal/cuda/devices", imports: []string{"engine", "tensor", "internal/hw", "internal/cuda"}, tests: []string{"internal/testkit"}},
	{pkg: "internal/shm", unsafe: true}, // a system call whose answer has no fixed size
	{pkg: "internal/hw"},
	{pkg: "internal/durable", imports: []string{"internal/osfile"}, tests: []string{"internal/testkit", "internal/testkit/disktrace"}}, // files that are replaced whole, for whoever keeps state
	{pkg: "internal/gpu", tests: []string{"internal/testkit"}},
	{pkg: "internal/cores", imports: []string{"internal/hw"}},
	{pkg: "internal/osfile"}, // locks, owners and syncing, for whoever keeps files
	{pkg: "internal/oserror"},
	{pkg: "internal/ring", unsafe: true, tests: []string{"internal/testkit"}},              // words of shared memory that two processes change
	{pkg: "internal/lanewire", unsafe: true, imports: []string{"tensor", "internal/ring"}}, // reads and writes of sockets that may block and are not to, which no package has without allocating
	{pkg: "internal/onnxwire"},
	{pkg: "internal/ensemble", imports: []string{"internal/onnxwire"}},
	{pkg: "internal/shap", imports: []string{"internal/ensemble"}, tests: []string{"internal/testkit"}},
	{pkg: "internal/cloud", imports: []string{"internal/oserror"}, tests: []string{"internal/testkit", "internal/testkit/s3"}},
	{pkg: "internal/transfer", imports: []string{"internal/cloud", "internal/durable", "internal/oserror", "internal/osfile"}, tests: []string{"internal/testkit", "internal/testkit/s3"}},
	{pkg: "internal/config", imports: []string{"internal/cloud"}}, // its section aws is cloud.Options
	{pkg: "internal/commandline", imports: []string{"internal/config"}},
	// What many hosts should run: documents in a bucket, the old API of devices, a device's side and a server's.
	{pkg: "internal/fleet", imports: []string{"packaging", "internal/durable", "internal/cloud", "internal/transfer", "internal/osfile"}, tests: []string{"internal/testkit", "internal/testkit/s3"}},
	{pkg: "internal/fleet/edge", imports: []string{"packaging"}, tests: []string{"internal/testkit"}},
	{pkg: "internal/fleet/fleettest", imports: []string{"internal/fleet", "internal/fleet/*"}, support: true},
	{pkg: "internal/fleet/*", imports: []string{"internal/alarm", "packaging", "internal/durable", "internal/fleet", "internal/fleet/edge"}, tests: append([]string{"internal/fleet/*", "internal/cloud", "internal/store", "internal/testkit", "internal/testkit/*"}, realParts...)},
	{pkg: "internal/parquetschema"}, // the order of a Parquet file's columns
	{pkg: "internal/rows", imports: []string{"tensor"}},
	{pkg: "internal/api/...", imports: []string{"internal/api/..."}},
	{pkg: "internal/archtest"},

	// The engine meets the outside only through interfaces that it defines itself.
	{pkg: "engine", imports: []string{"tensor", "internal/hw"}},
	{pkg: "engine/enginetest", imports: []string{"engine", "tensor", "internal/hw"}, support: true},

	// Backends know the engine; the engine does not know them. They do not know each other, and share the reader of Neo's
	// folders, which stays free of native code.
	{pkg: "backends", imports: append([]string{"backends/*"}, backend...)},
	{pkg: "backends/backendtest", imports: append([]string{"internal/testkit"}, backend...), tests: realParts, support: true},
	{pkg: "backends/neo", imports: []string{"engine", "tensor", "internal/dl", "internal/hw", "internal/ensemble"}, tests: realParts},
	{pkg: "backends/onnx/onnxtest", imports: []string{"internal/testkit"}, support: true},
	{pkg: "backends/*", imports: backend, tests: realParts, native: true, unsafe: true},

	{pkg: "packaging/...", imports: []string{"packaging/...", "internal/durable", "internal/ensemble", "internal/osfile"}, tests: realParts},

	// Where models are found on this machine: the engine's Source.
	{pkg: "internal/store", imports: []string{"engine", "tensor", "internal/durable", "internal/hw", "packaging", "packaging/signing", "internal/oserror", "internal/osfile"}, tests: append([]string{"internal/testkit/disktrace"}, realParts...)},

	// An installation of the Edge Manager agent becomes one of ours.
	{pkg: "internal/migrate", imports: []string{"engine", "internal/config", "internal/durable", "packaging"}, tests: []string{"internal/testkit"}},

	// Packages are made here of artifact folders, and by a whole pipeline from a dataset.
	{pkg: "internal/assemble", imports: []string{"engine", "tensor", "backends", "backends/neo", "backends/forest", "internal/dl", "internal/hw", "internal/rows", "internal/store", "packaging/..."}, tests: realParts},
	{pkg: "internal/pipeline", imports: []string{"internal/assemble", "internal/cloud", "internal/durable", "internal/transfer", "internal/config", "internal/ensemble", "internal/hw", "internal/monitor", "packaging/...", "internal/osfile"}, tests: append([]string{"internal/testkit/..."}, realParts...)},

	// History is scored in one process, with no daemon.
	{pkg: "internal/score", imports: []string{"engine", "tensor", "internal/parquetschema", "internal/durable", "internal/hw", "internal/rows"}, tests: append([]string{"internal/store", "internal/testkit"}, realParts...)},

	// Traces, for the servers. The only package that knows the OpenTelemetry SDK.
	{pkg: "internal/trace", imports: []string{"engine", "internal/server/failure"}, tests: []string{"engine/enginetest", "internal/hw", "internal/testkit", "tensor", "internal/server/...", "internal/api/...", "lane"}},

	// What models are asked, compared with what they were trained on: of files, and of nothing else here.
	{pkg: "internal/monitor", tests: []string{"internal/testkit"}},
	{pkg: "internal/drift", imports: []string{"engine", "tensor", "internal/monitor", "internal/metrics"}, tests: []string{"engine/enginetest", "internal/hw", "internal/testkit"}},
	{pkg: "internal/metrics", imports: []string{"engine"}, tests: []string{"engine/enginetest", "internal/hw", "internal/testkit"}},
	{pkg: "internal/metrics/cloudwatch", imports: []string{"internal/alarm", "internal/durable", "internal/metrics", "internal/osfile"}, tests: []string{"engine", "engine/enginetest", "internal/hw", "tensor", "internal/testkit/..."}},

	// What is captured, on its way from the engine to storage.
	{pkg: "internal/capture/format", imports: []string{"internal/parquetschema", "internal/rows", "tensor"}, tests: []string{"internal/testkit"}},
	{pkg: "internal/capture/residency", imports: []string{"internal/capture/format", "internal/durable", "internal/rows", "tensor", "internal/osfile"}, tests: []string{"internal/testkit", "internal/testkit/disktrace"}},
	{pkg: "internal/capture/upload", imports: []string{"internal/capture", "internal/capture/*", "internal/cloud", "internal/durable", "tensor"}, tests: []string{"internal/alarm", "internal/testkit", "internal/testkit/*"}},
	{pkg: "internal/capture/outlet", imports: []string{"internal/capture/*", "internal/config", "tensor"}, tests: []string{"internal/testkit"}},
	{pkg: "internal/alarm", tests: []string{"internal/testkit"}},
	{pkg: "internal/streamcopy", unsafe: true}, // assembler, for one thing only
	{pkg: "internal/capture", imports: []string{"engine", "internal/alarm", "internal/streamcopy", "tensor"}, tests: []string{"engine/enginetest", "internal/hw", "internal/capture/spool", "internal/server/...", "internal/testkit", "lane"}},
	{pkg: "internal/capture/spool", imports: []string{"internal/alarm", "internal/capture", "internal/durable", "tensor", "internal/oserror", "internal/osfile"}, tests: []string{"internal/testkit", "internal/testkit/disktrace"}},

	// Servers turn a wire format into requests to the engine. Which backend answers is none of their business.
	{pkg: "internal/server/lane", imports: server, tests: append([]string{"lane"}, realParts...)},
	{pkg: "internal/server/oip", imports: server, tests: append([]string{"internal/monitor", "internal/drift", "internal/metrics/..."}, realParts...)}, // whose metrics it serves
	{pkg: "internal/server/...", imports: server, tests: realParts},

	// Clients know the protocol and nothing of the daemon.
	{pkg: "lane", imports: []string{"tensor", "internal/lanewire", "internal/ring"}, tests: append([]string{"internal/server/lane", "internal/server/local"}, realParts...)},

	// Where everything is put together.
	{pkg: "cmd/...", imports: everything},
	// The yardstick of the benchmarks is a C loop.
	{pkg: "bench/native", imports: everything, native: true, unsafe: true},
	{pkg: "bench/...", imports: everything},
	{pkg: "scripts/release", imports: []string{"packaging/signing"}}, // a release is signed as a package is
	{pkg: "scripts/arm64"},
	{pkg: "examples/...", imports: []string{"internal/api/...", "examples/...", "lane", "tensor"}, tests: append([]string{"internal/capture", "internal/capture/spool"}, realParts...)},

	// What tests stand on. The benchmarks start the same store.
	{pkg: "internal/testkit/s3", imports: []string{"internal/cloud", "internal/testkit"}, support: true},
	{pkg: "internal/testkit/...", imports: realParts, support: true},
}
