// Command fleet has a fleet of simulated devices converge against one S3 store and one
// `picket fleet serve` on this machine, and counts what they ask. JSON goes to standard
// output.
//
// The devices are the real code in one process, with models that only pretend to run
// and with their state in memory (a thousand devices have a thousand disks, and this
// machine one). The store is versitygw, the server is the program itself, whose state is
// on disk: each heartbeat is there before it is answered.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/device"
	"github.com/picket-ml/picket/internal/fleet/fleettest"
	"github.com/picket-ml/picket/internal/fleet/serve"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/internal/testkit/s3"
)

type settings struct {
	devices  int
	interval time.Duration
	size     int
	patience time.Duration
}

// result is what bench/results/fleet.json holds.
type result struct {
	Devices         int     `json:"devices"`
	IntervalSeconds float64 `json:"interval_s"`
	PackageBytes    int     `json:"package_bytes"`
	// Steady is for polls while nothing changes; its counts are for each device and poll.
	Steady steady `json:"steady"`
	// Rollouts are in their order.
	Rollouts []rollout `json:"rollouts"`
}

type steady struct {
	Polls        int64   `json:"polls"`
	BucketGets   float64 `json:"bucket_requests_per_device_per_poll"`
	NotModified  float64 `json:"of_which_not_modified"`
	ServerPosts  float64 `json:"server_requests_per_device_per_poll"`
	PollsASecond float64 `json:"polls_per_s"`
}

type rollout struct {
	Name      string    `json:"name"`
	Stages    []float64 `json:"stages"`
	Converged float64   `json:"all_devices_serve_it_s"`
	Done      float64   `json:"rollout_done_s"`
	// Of all devices together.
	BucketGets int64 `json:"bucket_requests"`
	Downloads  int64 `json:"package_downloads"`
	Posts      int64 `json:"server_requests"`
}

func (r rollout) name() string { return fmt.Sprintf("rollout %q in %d stages", r.Name, len(r.Stages)) }

func main() {
	var s settings
	flag.IntVar(&s.devices, "devices", 1000, "how many devices")
	flag.DurationVar(&s.interval, "interval", 10*time.Second, "how often each looks")
	flag.IntVar(&s.size, "size", 256<<10, "bytes of a package")
	flag.DurationVar(&s.patience, "patience", 10*time.Minute, "how long a rollout may take")
	program.Main("bench-fleet", s.measure)
}

// measure runs and writes the report.
func (s *settings) measure(ctx context.Context) error {
	r, err := run(ctx, *s)
	if err != nil {
		return err
	}
	all := report.New()
	all.Results = r
	for _, one := range r.Rollouts {
		all.Tell(one.name()+": all devices serve it", one.Converged, "s")
		all.Tell(one.name()+": done", one.Done, "s")
	}
	all.Promise("requests to the bucket for each device and poll, nothing changing", r.Steady.BucketGets, "", 1.01)
	all.Promise("requests to the server for each device and poll, nothing changing", r.Steady.ServerPosts, "", 1.01)
	return all.Write()
}

// counted counts the requests to the server.
type counted struct {
	http.RoundTripper
	n atomic.Int64
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.RoundTripper.RoundTrip(r)
}

// polled counts the polls of devices: each begins with the timestamp.
type polled struct {
	*fleettest.Bucket
	polls atomic.Int64
}

func (p *polled) Get(ctx context.Context, key, etag string, limit int64) ([]byte, string, error) {
	if key == "timestamp.json" {
		p.polls.Add(1)
	}
	return p.Bucket.Get(ctx, key, etag, limit)
}

func run(ctx context.Context, s settings) (*result, error) {
	dir, err := os.MkdirTemp("", "picket-bench-fleet-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left is in a temporary folder
	memory, err := os.MkdirTemp("/dev/shm", "picket-bench-fleet-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(memory) }()
	binary, err := s3.Build()
	if err != nil {
		return nil, err
	}
	store, err := s3.Launch(binary, filepath.Join(dir, "s3"), s3.Settings{})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	client, err := store.Options().S3(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := client.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: aws.String("fleet")}); err != nil {
		return nil, err
	}
	place := "s3://fleet/pos"
	inner, err := fleet.Open(ctx, place, store.Options())
	if err != nil {
		return nil, err
	}
	keyDir := filepath.Join(dir, "keys")
	keys, _, err := fleet.MakeKeys(keyDir)
	if err != nil {
		return nil, err
	}
	root, err := fleet.Init(ctx, inner, keys, "pos", 1, nil)
	if err != nil {
		return nil, err
	}
	publisher := fleet.NewPublisher(inner, keys, root, nil)
	names := make([]string, s.devices)
	for i := range names {
		names[i] = fmt.Sprintf("device-%d", i)
	}
	if err := fleettest.Register(ctx, publisher, names); err != nil {
		return nil, err
	}
	endpoint, page, end, err := startServer(ctx, dir, keyDir, place, root, store)
	if err != nil {
		return nil, err
	}
	defer end()

	bucket := &polled{Bucket: &fleettest.Bucket{Bucket: inner}}
	posts := &counted{RoundTripper: &http.Transport{MaxIdleConnsPerHost: s.devices, MaxConnsPerHost: s.devices}}
	devices, stopDevices, err := startDevices(ctx, s, bucket, posts, endpoint, root, memory, names)
	if err != nil {
		return nil, err
	}
	defer stopDevices()

	out := &result{Devices: s.devices, IntervalSeconds: s.interval.Seconds(), PackageBytes: s.size}
	var before *fleet.Package
	for _, one := range []struct {
		name   string
		stages []float64
	}{{"first", []float64{100}}, {"staged", []float64{5, 25, 100}}} {
		version := fmt.Sprint(len(out.Rollouts) + 1)
		p, err := fleettest.Publish(ctx, inner, dir, version, s.size)
		if err != nil {
			return nil, err
		}
		r := rollout{Name: one.name, Stages: one.stages}
		gets, downloads, sent := bucket.Gets.Load(), bucket.Downloads.Load(), posts.n.Load()
		began := time.Now()
		h := fleet.Health{SilenceSeconds: 3600, MaxErrorRate: 1}
		if err := fleettest.Begin(ctx, publisher, "r"+version, p, before, one.stages, h, time.Now().UTC().Truncate(time.Second)); err != nil {
			return nil, err
		}
		for r.Done == 0 {
			if time.Since(began) > s.patience {
				return nil, fmt.Errorf("rollout %s was not done within %v", one.name, s.patience)
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(200 * time.Millisecond):
			}
			if r.Converged == 0 && serving(devices, version) == s.devices {
				r.Converged = time.Since(began).Seconds()
			}
			if r.Converged == 0 {
				continue
			}
			is, err := stateOf(ctx, page)
			if err != nil {
				return nil, err
			}
			if is.Rollouts[0].State == fleet.Done && is.Rollouts[0].Good == s.devices {
				r.Done = time.Since(began).Seconds()
			}
		}
		r.BucketGets, r.Downloads, r.Posts = bucket.Gets.Load()-gets, bucket.Downloads.Load()-downloads, posts.n.Load()-sent
		fmt.Fprintf(os.Stderr, "%-7s %d devices serve it after %.1f s, done after %.1f s; %d requests to the bucket, %d downloads, %d to the server\n",
			one.name, s.devices, r.Converged, r.Done, r.BucketGets, r.Downloads, r.Posts)
		out.Rollouts = append(out.Rollouts, r)
		before = &p
	}
	if out.Steady, err = watchSteady(ctx, s, bucket, posts); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "steady  %d polls, %.0f a second; for each device and poll %.3f requests to the bucket (%.3f not modified), %.3f to the server\n",
		out.Steady.Polls, out.Steady.PollsASecond, out.Steady.BucketGets, out.Steady.NotModified, out.Steady.ServerPosts)
	return out, nil
}

// watchSteady counts while nothing changes.
func watchSteady(ctx context.Context, s settings, bucket *polled, posts *counted) (steady, error) {
	wait := func(d time.Duration) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
	if err := wait(2 * s.interval); err != nil { // the progress has just changed
		return steady{}, err
	}
	polls, gets, same, sent := bucket.polls.Load(), bucket.Gets.Load(), bucket.NotModified.Load(), posts.n.Load()
	took := 4 * s.interval
	if err := wait(took); err != nil {
		return steady{}, err
	}
	out := steady{Polls: bucket.polls.Load() - polls}
	n := float64(out.Polls)
	out.BucketGets, out.NotModified = float64(bucket.Gets.Load()-gets)/n, float64(bucket.NotModified.Load()-same)/n
	out.ServerPosts, out.PollsASecond = float64(posts.n.Load()-sent)/n, n/took.Seconds()
	return out, nil
}

func serving(devices []*fleettest.Loader, version string) int {
	n := 0
	for _, d := range devices {
		if d.Version("fraud") == version {
			n++
		}
	}
	return n
}

func startDevices(ctx context.Context, s settings, bucket fleet.Bucket, posts http.RoundTripper, endpoint string, root []byte, dir string, names []string) (loaders []*fleettest.Loader, stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	stop = func() {
		cancel()
		running.Wait()
	}
	for _, name := range names {
		client, err := fleettest.Client(endpoint, posts, nil)
		if err != nil {
			stop()
			return nil, nil, err
		}
		loader := &fleettest.Loader{}
		agent, err := device.New(device.Options{
			Name: name, Fleet: "pos", Group: "default", Bucket: bucket, Root: root, Dir: filepath.Join(dir, name), Loader: loader, Client: client,
			Interval: s.interval, Version: "bench", Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			stop()
			return nil, nil, err
		}
		loaders = append(loaders, loader)
		running.Go(func() {
			agent.Start(ctx)
			agent.Run(ctx)
		})
	}
	return loaders, stop, nil
}

// startServer runs the program.
func startServer(ctx context.Context, dir, keyDir, place string, root []byte, store *s3.Server) (endpoint, page string, end func(), err error) {
	program := filepath.Join(dir, "picket")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/picket")
	build.Dir = testkit.ModuleRoot()
	if out, err := build.CombinedOutput(); err != nil {
		return "", "", nil, fmt.Errorf("building picket: %w\n%s", err, out)
	}
	// The server has the online key, and no other.
	online := filepath.Join(dir, "online")
	key, err := os.ReadFile(filepath.Join(keyDir, "online.pem"))
	if err == nil {
		err = os.MkdirAll(online, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(online, "online.pem"), key, 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(online, fleet.RootFile), root, 0o600)
	}
	credentials := filepath.Join(dir, "devices.txt")
	if err == nil {
		err = os.WriteFile(credentials, []byte(fleettest.AccessKey+" "+fleettest.SecretKey+" *\n"), 0o600)
	}
	if err != nil {
		return "", "", nil, err
	}
	c := exec.Command(program, "fleet", "serve", "--place", place, "--keys", online, "--state", filepath.Join(dir, "server"), "--credentials", credentials,
		"--listen", "127.0.0.1:0", "--page", "localhost:0", "--interval", "1s", "--path-style", "--endpoint-url", store.Endpoint)
	c.Env = append(os.Environ(), store.Env()...)
	log := &lines{found: make(chan map[string]string, 1)}
	c.Stderr = log
	if err := c.Start(); err != nil {
		return "", "", nil, err
	}
	exited := make(chan struct{})
	go func() {
		_ = c.Wait() // how it ended does not matter
		close(exited)
	}()
	end = func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		<-exited
	}
	select {
	case found := <-log.found:
		return "http://" + found["devices"], "http://" + found["page"], end, nil
	case <-exited:
		return "", "", nil, fmt.Errorf("picket fleet serve ended: %s", log.text())
	case <-time.After(time.Minute):
		end()
		return "", "", nil, fmt.Errorf("picket fleet serve does not listen: %s", log.text())
	}
}

// lines finds the addresses in the log of the server, and keeps its beginning.
type lines struct {
	mu    sync.Mutex
	kept  bytes.Buffer
	found chan map[string]string
	done  bool
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept.Len() < 1<<16 {
		l.kept.Write(p)
	}
	at := map[string]string{}
	for line := range strings.Lines(l.kept.String()) {
		_, what, ok := strings.Cut(line, "for=")
		_, address, ok2 := strings.Cut(line, "address=")
		if ok && ok2 {
			at[strings.Fields(what)[0]] = strings.Fields(address)[0]
		}
	}
	if len(at) == 2 && !l.done {
		l.done = true
		l.found <- at
	}
	return len(p), nil
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept.String()
}

func stateOf(ctx context.Context, page string) (*serve.Report, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, page+"/report.json", nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	out := &serve.Report{}
	return out, json.Unmarshal(data, out)
}
