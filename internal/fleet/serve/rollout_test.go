package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/device"
	"github.com/picket-ml/picket/internal/fleet/edge"
	"github.com/picket-ml/picket/internal/fleet/fleettest"
	"github.com/picket-ml/picket/internal/testkit/s3"
)

// clock is everybody's, and goes only when a test says so.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// fleetOf is a whole fleet: a bucket, a server behind HTTP, and devices.
type fleetOf struct {
	t         *testing.T
	clock     *clock
	bucket    *fleettest.Bucket
	keys      fleet.Keys
	root      []byte
	publisher *fleet.Publisher
	state     string
	server    *Server
	http      *httptest.Server
	handler   http.Handler
	transport *http.Transport
	devices   []*simulated
	files     string
}

type simulated struct {
	name   string
	dir    string
	loader *fleettest.Loader
	agent  *device.Agent
}

func newFleetOf(t *testing.T, bucket fleet.Bucket, devices int) *fleetOf {
	t.Helper()
	// S3 refuses who is too far from its own time; the documents do not know that.
	f := &fleetOf{
		t: t, clock: &clock{at: time.Now().UTC().Truncate(time.Second)}, bucket: &fleettest.Bucket{Bucket: bucket}, state: t.TempDir(), files: t.TempDir(),
		transport: &http.Transport{MaxIdleConnsPerHost: 8},
	}
	var err error
	if f.keys, _, err = fleet.MakeKeys(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if f.root, err = fleet.Init(t.Context(), f.bucket, f.keys, "pos", 1, f.clock.now); err != nil {
		t.Fatal(err)
	}
	f.publisher = fleet.NewPublisher(f.bucket, f.keys, f.root, f.clock.now)
	var names []string
	for i := range devices {
		names = append(names, fmt.Sprintf("till-%d", i))
	}
	if err := fleettest.Register(t.Context(), f.publisher, names); err != nil {
		t.Fatal(err)
	}
	f.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.handler.ServeHTTP(w, r) }))
	t.Cleanup(f.http.Close)
	t.Cleanup(f.transport.CloseIdleConnections)
	f.startServer()
	t.Cleanup(func() { _ = f.server.Close() })
	for _, n := range names {
		d := &simulated{name: n, dir: t.TempDir(), loader: &fleettest.Loader{}}
		f.devices = append(f.devices, d)
		f.startDevice(d)
	}
	return f
}

// startServer starts the server with the online key alone, as it should be run.
func (f *fleetOf) startServer() {
	f.t.Helper()
	var err error
	f.server, err = New(f.t.Context(), Options{
		Bucket: f.bucket, Root: f.root, Keys: fleet.Keys{Online: f.keys.Online}, Dir: f.state, Interval: time.Hour, Log: slog.New(slog.DiscardHandler), Now: f.clock.now,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.handler = edge.NewHandler(f.server, fleettest.Keys{}, slog.New(slog.DiscardHandler), f.clock.now)
}

func (f *fleetOf) startDevice(d *simulated) {
	f.t.Helper()
	client, err := fleettest.Client(f.http.URL, f.transport, f.clock.now)
	if err != nil {
		f.t.Fatal(err)
	}
	d.agent, err = device.New(device.Options{
		Name: d.name, Fleet: "pos", Group: "default", Bucket: f.bucket, Root: f.root, Dir: d.dir, Loader: d.loader, Client: client,
		Interval: time.Minute, Version: "1.0-test", Now: f.clock.now,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	d.agent.Start(f.t.Context())
}

// round has every device look once, and then the server.
func (f *fleetOf) round() {
	f.t.Helper()
	var polling sync.WaitGroup
	for _, d := range f.devices {
		polling.Go(func() { _ = d.agent.Poll(f.t.Context()) }) // what comes of it is looked at
	}
	polling.Wait()
	f.server.Tick(f.t.Context())
	f.clock.advance(time.Minute)
}

func (f *fleetOf) publish(version string) fleet.Package {
	f.t.Helper()
	p, err := fleettest.Publish(f.t.Context(), f.bucket, f.files, version, 4096)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

func (f *fleetOf) begin(id string, to fleet.Package, previous *fleet.Package, stages []float64, h fleet.Health) {
	f.t.Helper()
	if err := fleettest.Begin(f.t.Context(), f.publisher, id, to, previous, stages, h, f.clock.now()); err != nil {
		f.t.Fatal(err)
	}
}

// versions counts what the devices serve.
func (f *fleetOf) versions() map[string]int {
	all := map[string]int{}
	for _, d := range f.devices {
		all[d.loader.Version("fraud")]++
	}
	return all
}

func (f *fleetOf) stateOf(id string) *fleet.RolloutState {
	f.t.Helper()
	s := f.server.view.Load().progress["default"].Of("fraud", id)
	if s == nil {
		f.t.Fatalf("there is no rollout %s", id)
	}
	return s
}

// until has rounds pass until the rollout is in the state.
func (f *fleetOf) until(id string, want fleet.State) {
	f.t.Helper()
	for range 200 {
		f.round()
		if f.stateOf(id).State == want {
			return
		}
	}
	f.t.Fatalf("after 200 rounds rollout %s is %+v; the devices serve %v", id, f.stateOf(id), f.versions())
}

var quick = fleet.Health{BakeSeconds: 60, MinRequests: 10, MaxErrorRate: 0.01, SilenceSeconds: 900}

// served brings the devices to version 1.
func (f *fleetOf) served() fleet.Package {
	f.t.Helper()
	one := f.publish("1")
	f.begin("r1", one, nil, []float64{100}, quick)
	f.until("r1", fleet.Done)
	if got := f.versions(); got["1"] != len(f.devices) {
		f.t.Fatalf("the devices serve %v", got)
	}
	return one
}

func inS3(t *testing.T) fleet.Bucket {
	t.Helper()
	server := s3.Start(t)
	b, err := fleet.Open(t.Context(), "s3://"+server.NewBucket(t)+"/fleets/pos", server.Options())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRolloutGoesThroughItsStages(t *testing.T) {
	f := newFleetOf(t, inS3(t), 50)
	one := f.served()
	two := f.publish("2")
	stages := []float64{10, 100}
	f.begin("r2", two, &one, stages, quick)
	seen := map[int]int{}
	for range 100 {
		f.round()
		s := f.stateOf("r2")
		// No device has the package that the stage does not reach; the stage may have moved
		// on after the devices have looked.
		reached := 0
		for _, d := range f.devices {
			if fleet.Position(d.name) < stages[s.Stage] {
				reached++
			}
		}
		if got := f.versions()["2"]; got > reached {
			t.Fatalf("in stage %d %d devices serve the new version, and %d may", s.Stage, got, reached)
		}
		seen[s.Stage] = f.versions()["2"]
		if s.State == fleet.Done {
			break
		}
	}
	if f.stateOf("r2").State != fleet.Done || f.versions()["2"] != 50 {
		t.Fatalf("the rollout is %+v, the devices serve %v", f.stateOf("r2"), f.versions())
	}
	if len(seen) != len(stages) || seen[0] >= seen[1] {
		t.Errorf("the stages had %v devices", seen)
	}
	if r := f.server.Report(); r.Counts.Heard != 50 || r.Counts.Failed != 0 || r.Rollouts[0].Good != 50 {
		t.Errorf("the report says %+v, %+v", r.Counts, r.Rollouts)
	}
}

// A package that is no good reaches the first stage only, every device serves the old
// one afterwards, and nobody tries it again.
func TestBadPackageHaltsAtTheFirstStage(t *testing.T) {
	f := newFleetOf(t, inS3(t), 20)
	one := f.served()
	bad := f.publish("2")
	var tried atomic.Int64
	for _, d := range f.devices {
		d.loader.Bad = map[string]error{"2": errors.New("the model does not give the answers that its package expects")}
		d.loader.Dies = map[string]func(){"2": func() { tried.Add(1) }}
	}
	f.begin("r2", bad, &one, []float64{10, 100}, quick)
	f.until("r2", fleet.Halted)
	first := 0
	for _, d := range f.devices {
		if fleet.Position(d.name) < 10 {
			first++
		}
	}
	if s := f.stateOf("r2"); s.Stage != 0 || !strings.Contains(s.Reason, "does not give the answers") {
		t.Errorf("the rollout ended as %+v", s)
	}
	f.round()
	f.round()
	if got := f.versions(); got["1"] != 20 {
		t.Errorf("the devices serve %v", got)
	}
	if tried := int(tried.Load()); tried == 0 || tried > first {
		t.Errorf("the package was tried %d times, on %d devices of the first stage", tried, first)
	}
	// Under another id it is tried again.
	for _, d := range f.devices {
		d.loader.Bad = nil
	}
	f.begin("r3", bad, &one, []float64{10, 100}, quick)
	f.until("r3", fleet.Done)
}

func folderFleet(t *testing.T, devices int) *fleetOf {
	t.Helper()
	b, err := fleet.NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return newFleetOf(t, b, devices)
}

// A model that fails requests, or is slow, while it is watched is taken back by the
// device itself, and from everywhere by the server.
func TestUnhealthyModelIsTakenBack(t *testing.T) {
	for _, stats := range []device.Stats{{Requests: 1000, Failed: 500}, {Requests: 1000, P99: time.Second}} {
		f := folderFleet(t, 8)
		one := f.served()
		two := f.publish("2")
		h := quick
		h.MaxP99Micros, h.BakeSeconds = 5000, 600
		f.begin("r2", two, &one, []float64{50, 100}, h)
		f.round() // the server has not looked at what it watches yet
		f.round()
		for _, d := range f.devices {
			if d.loader.Version("fraud") == "2" {
				d.loader.SetStats("fraud", stats)
			}
		}
		f.until("r2", fleet.Halted)
		f.round()
		if got := f.versions(); got["1"] != 8 {
			t.Errorf("with %+v the devices serve %v", stats, got)
		}
	}
}

func TestPauseAndResume(t *testing.T) {
	f := folderFleet(t, 12)
	one := f.served()
	two := f.publish("2")
	f.begin("r2", two, &one, []float64{30, 100}, quick)
	f.round()
	set := func(s fleet.State) {
		t.Helper()
		err := f.publisher.Change(t.Context(), func(ctx context.Context, e *fleet.Edit) error {
			p, err := e.Reader.Progress(ctx, "pos", "default")
			if err != nil {
				return err
			}
			p.Rollouts[0].State, p.Rollouts[0].Since = s, f.clock.now()
			return e.SetProgress(ctx, p)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	set(fleet.Paused)
	for range 10 {
		f.round()
	}
	got := f.versions()
	if s := f.stateOf("r2"); s.State != fleet.Paused || s.Stage != 0 || got["2"] == 0 || got["2"] == 12 {
		t.Errorf("the paused rollout is %+v, the devices serve %v", s, got)
	}
	set(fleet.Running)
	f.until("r2", fleet.Done)
	set(fleet.Halted) // by an operator, when it is done
	f.round()
	f.round()
	if got := f.versions(); got["1"] != 12 {
		t.Errorf("after a rollout was taken back the devices serve %v", got)
	}
}

// A device that falls silent once the new package has reached it counts as failed; one
// that was away before does not, and comes by itself.
func TestSilentDevices(t *testing.T) {
	f := folderFleet(t, 8)
	one := f.served()
	away := f.devices[3]
	all := f.devices
	f.devices = append(append([]*simulated{}, all[:3]...), all[4:]...)
	f.clock.advance(40 * time.Minute)
	f.round()
	two := f.publish("2")
	f.begin("r2", two, &one, []float64{100}, quick)
	f.until("r2", fleet.Done)
	if v := away.loader.Version("fraud"); v != "1" {
		t.Errorf("the device that was away serves %s", v)
	}
	// A month passes; the server signs what would expire.
	for range 31 {
		f.clock.advance(24 * time.Hour)
		f.server.Tick(t.Context())
	}
	f.startDevice(away)
	if v := away.loader.Version("fraud"); v != "1" {
		t.Errorf("the device that was away serves %s before it has asked", v)
	}
	if err := away.agent.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := away.loader.Version("fraud"); v != "2" {
		t.Errorf("after a month away the device serves %s", v)
	}

	f.devices = all
	f.round()
	three := f.publish("3")
	f.begin("r3", three, &two, []float64{100}, quick)
	f.round()
	f.devices = all[1:] // one is never heard of again
	f.until("r3", fleet.Halted)
	if s := f.stateOf("r3"); !strings.Contains(s.Reason, all[0].name) || !strings.Contains(s.Reason, "nothing was heard") {
		t.Errorf("the rollout ended as %+v", s)
	}
}

// A server that is started again knows what it knew.
func TestServerStartsAgain(t *testing.T) {
	f := folderFleet(t, 6)
	one := f.served()
	two := f.publish("2")
	f.begin("r2", two, &one, []float64{50, 100}, quick)
	for i := range 20 {
		if i%2 == 0 {
			before := f.server.Report()
			if err := f.server.Close(); err != nil {
				t.Fatal(err)
			}
			f.startServer()
			if after := f.server.Report(); len(after.Devices) != len(before.Devices) || after.Counts != before.Counts {
				t.Fatalf("started again the server says %+v, before %+v", after.Counts, before.Counts)
			}
		}
		f.round()
		if f.stateOf("r2").State == fleet.Done {
			return
		}
	}
	t.Errorf("the rollout is %+v", f.stateOf("r2"))
}

// The clock of a device is wrong by a day: it says so, and still reports.
func TestWrongClock(t *testing.T) {
	f := folderFleet(t, 1)
	f.served()
	d := f.devices[0]
	wrong := func() time.Time { return f.clock.now().Add(24 * time.Hour) }
	client, err := fleettest.Client(f.http.URL, f.transport, wrong)
	if err != nil {
		t.Fatal(err)
	}
	d.agent, err = device.New(device.Options{
		Name: d.name, Fleet: "pos", Group: "default", Bucket: f.bucket, Root: f.root, Dir: d.dir, Loader: d.loader, Client: client, Interval: time.Minute, Version: "1", Now: wrong,
	})
	if err != nil {
		t.Fatal(err)
	}
	d.agent.Start(t.Context())
	if err := d.agent.Poll(t.Context()); err != nil {
		t.Fatal(err) // a day is within the life of the documents
	}
	if off := client.ClockError(); off.Round(time.Hour) != -24*time.Hour {
		t.Errorf("the device takes its clock to be off by %v", off)
	}
	r := f.server.Report()
	if p := strings.Join(r.Devices[0].Problems, "; "); !strings.Contains(p, "clock") {
		t.Errorf("the report says of the device: %q", p)
	}
}
