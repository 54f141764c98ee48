package target

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	controlapi "github.com/picket-ml/picket/internal/api/control"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
)

// Daemon is a picketd that a suite has started.
type Daemon struct {
	*process.Server
	Dir string // of its sockets

	conn    *grpc.ClientConn // to control.sock
	served  []Served
	options DaemonOptions
	version string
	answers map[string]string // what each model is asked for as, by name: its version
}

// DaemonOptions say which daemon is started.
type DaemonOptions struct {
	Program string // picketd
	Version string
	Mask    string // features of the processor that are taken away
	// Extra is more of its configuration, in YAML.
	Extra string
}

// patience is how long a daemon may take to load its models.
const patience = 2 * time.Minute

// LaunchDaemon starts picketd with the models, in dir, and waits for nothing. The caller ends it with Stop.
func LaunchDaemon(dir string, served []Served, o DaemonOptions) (*Daemon, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a folder for picketd: %w", err)
	}
	var config strings.Builder
	fmt.Fprintf(&config, "sockets: {dir: %q}\nstate_dir: %q\nunsigned: true\nhost: {imds: false, cpu_mask: %q}\n%s", dir, filepath.Join(dir, "state"), o.Mask, o.Extra)
	if len(served) > 0 {
		config.WriteString("models:\n")
	}
	for _, s := range served {
		fmt.Fprintf(&config, "- {name: %q, path: %q, backend: %q, threads: %d, max_batch_rows: %d}\n", s.Name(), s.Model.Dir, s.Backend, s.Threads, s.BatchRows)
	}
	d := &Daemon{Dir: dir, served: served, options: o, version: o.Version, answers: map[string]string{}}
	if err := os.WriteFile(d.config(), []byte(config.String()), 0o600); err != nil {
		return nil, fmt.Errorf("writing picketd's configuration: %w", err)
	}
	return d, d.launch()
}

func (d *Daemon) config() string { return filepath.Join(d.Dir, "picketd.yaml") }

// launch starts the program with the configuration that is there.
func (d *Daemon) launch() error {
	server, err := process.Launch(filepath.Join(d.Dir, "run"), "picketd", d.options.Program, "--config", d.config())
	if err != nil {
		return err
	}
	d.Server = server
	return nil
}

// StartDaemon starts picketd with the models, in dir, and waits until it serves them all. The caller ends it with Stop.
func StartDaemon(ctx context.Context, dir string, served []Served, o DaemonOptions) (*Daemon, error) {
	d, err := LaunchDaemon(dir, served, o)
	if err != nil {
		return nil, err
	}
	if err := d.ready(ctx); err != nil {
		return nil, errors.Join(err, d.Stop())
	}
	return d, nil
}

// Renew ends the daemon and starts it anew, in another process at the same address. Nobody is connected meanwhile. One that does not
// come up is still to be ended with Stop.
func (d *Daemon) Renew(ctx context.Context) error {
	if err := d.Stop(); err != nil {
		return err
	}
	d.conn = nil
	if err := d.launch(); err != nil {
		return err
	}
	return d.ready(ctx)
}

// ready waits until the daemon serves its models.
func (d *Daemon) ready(ctx context.Context) (err error) {
	d.conn, err = grpc.NewClient("unix://"+d.socket("control"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("preparing to ask picketd: %w", err)
	}
	if err := d.Answers(ctx, func(ctx context.Context) error {
		_, err := agentapi.NewAgentClient(d.conn).ListModels(ctx, &agentapi.ListModelsRequest{}, grpc.WaitForReady(true))
		return err
	}); err != nil {
		return fmt.Errorf("starting picketd: %w", err)
	}
	return d.await(ctx, d.served)
}

// await waits until the models are served, or are told not to be.
func (d *Daemon) await(ctx context.Context, served []Served) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("picketd has not loaded its models after %v", patience))
	defer cancel()
	for _, s := range served {
		for {
			version, err := protocols.Version(ctx, d.socket("oip"), s.Name())
			if err == nil {
				d.answers[s.Name()] = version
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("waiting for model %s: %w: %w", s.Name(), context.Cause(ctx), err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

func (d *Daemon) socket(name string) string { return filepath.Join(d.Dir, name+".sock") }

// Stop ends the daemon.
func (d *Daemon) Stop() error {
	var err error
	if d.conn != nil {
		err = d.conn.Close()
	}
	d.End()
	return err
}

// Variant asks what runs a model.
func (d *Daemon) Variant(ctx context.Context, s Served) (string, error) {
	answer, err := controlapi.NewControlClient(d.conn).Explain(ctx, &controlapi.ExplainRequest{Name: s.Name()})
	if err != nil {
		return "", fmt.Errorf("asking picketd what runs model %s: %w", s.Name(), err)
	}
	for _, c := range answer.GetCandidates() {
		if c.GetChosen() {
			return variant(c.GetBackend(), c.GetVariant()), nil
		}
	}
	return answer.GetChosen(), nil
}

// Replace loads the model again under its name, as a new version of it would be; requests go on meanwhile.
func (d *Daemon) Replace(ctx context.Context, s Served) error {
	_, err := oipapi.NewGRPCInferenceServiceClient(d.conn).RepositoryModelLoad(ctx, &oipapi.RepositoryModelLoadRequest{
		ModelName: s.Name(), // the configuration says the rest
	})
	if err != nil {
		return fmt.Errorf("replacing model %s: %w", s.Name(), err)
	}
	return nil
}

// Ask is what clients of a socket ask about.
func (d *Daemon) Ask(socket string, s Served, rows int) protocols.Ask {
	return protocols.Ask{Address: d.socket(socket), Model: s.Name(), Version: d.answers[s.Name()], Rows: s.Model.Rows, Count: rows}
}

// durations is the metric that has the phases.
const durations = "picket_model_duration_seconds"

// Phases reads how long the phases of the model's requests took so far.
func (d *Daemon) Phases(ctx context.Context, s Served) (PhaseTimes, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", d.socket("oip"))
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://picketd/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("reading picketd's metrics: %w", err)
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("reading picketd's metrics: %w", err)
	}
	defer answer.Body.Close()
	times, err := phases(answer.Body, s.Name())
	if err != nil {
		return nil, fmt.Errorf("reading picketd's metrics: %w", err)
	}
	return times, nil
}

// phases reads the sums and counts of a model's phases from Prometheus's text.
func phases(r io.Reader, model string) (PhaseTimes, error) {
	times := PhaseTimes{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		rest, found := strings.CutPrefix(lines.Text(), durations+"_")
		if !found || !strings.Contains(rest, fmt.Sprintf("model=%q", model)) {
			continue
		}
		kind, rest, _ := strings.Cut(rest, "{")
		_, phase, found := strings.Cut(rest, `phase="`)
		phase, _, closed := strings.Cut(phase, `"`)
		if !found || !closed || kind != "sum" && kind != "count" {
			continue
		}
		value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("a line cannot be read: %.200q", lines.Text())
		}
		t := times[phase]
		if kind == "sum" {
			t.Seconds = value
		} else {
			t.Count = value
		}
		times[phase] = t
	}
	return times, lines.Err()
}

// overSocket is a daemon asked over one of its sockets.
type overSocket struct {
	*Daemon
	name, transport, notes string
	connect                func(d *Daemon, s Served, rows int) (protocols.Client, error)
}

// asked is by whom the lane is asked in closed loads of few callers, as far as it is not by what asks in all others.
func asked() string {
	if protocols.InC {
		return "; few callers of a closed load ask through the C client"
	}
	return ""
}

// Over are the targets that the daemon is.
func (d *Daemon) Over() []Target {
	return []Target{
		&overSocket{d, "lane", "Unix socket", "raw tensors in frames, a connection for each caller" + asked(), func(d *Daemon, s Served, rows int) (protocols.Client, error) {
			return d.Ask("lane", s, rows).Lane(1)()
		}},
		&overSocket{d, "ring", "shared memory", "the lane through a ring, a connection for each caller" + asked(), func(d *Daemon, s Served, rows int) (protocols.Client, error) {
			return d.Ask("lane", s, rows).Ring()
		}},
		&overSocket{d, "agent", "Unix socket", "the Edge Manager agent's gRPC, a connection for each caller", func(d *Daemon, s Served, rows int) (protocols.Client, error) {
			return d.Ask("agent", s, rows).Agent()
		}},
		&overSocket{d, "oip-grpc", "Unix socket", "the Open Inference Protocol's gRPC with raw contents, a connection for each caller", func(d *Daemon, s Served, rows int) (protocols.Client, error) {
			return d.Ask("oip", s, rows).OIP()
		}},
		&overSocket{d, "oip-http", "Unix socket", "the Open Inference Protocol over HTTP/1.1 with binary data, a connection for each caller", func(d *Daemon, s Served, rows int) (protocols.Client, error) {
			return d.Ask("oip", s, rows).HTTP(protocols.Binary, protocols.Path(s.Name()))()
		}},
	}
}

func (t *overSocket) Info() report.TargetInfo {
	return report.TargetInfo{Name: t.name, Kind: report.KindServer, Ours: true, Transport: t.transport, Version: t.version, Notes: t.notes}
}

func (t *overSocket) Process() *process.Server { return t.Server }

func (t *overSocket) Connect(s Served, rows int) (protocols.Client, error) {
	return t.connect(t.Daemon, s, rows)
}
