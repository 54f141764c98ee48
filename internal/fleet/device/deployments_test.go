package device_test

import (
	"context"
	"crypto/sha1" // as the old API has it
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/device"
	"github.com/picket-ml/picket/internal/fleet/edge"
	"github.com/picket-ml/picket/internal/fleet/fleettest"
	"github.com/picket-ml/picket/packaging"
)

// named is a server that names deployments, as the old service did.
type named struct {
	deployments []edge.Deployment
	beats       []*edge.Heartbeat
}

func (n *named) Registration(context.Context, edge.Device) (*edge.Registration, error) {
	return &edge.Registration{DeviceRegistration: "any text", CacheTTL: "60"}, nil
}

func (n *named) Heartbeat(_ context.Context, h *edge.Heartbeat) error {
	n.beats = append(n.beats, h)
	return nil
}

func (n *named) Deployments(context.Context, edge.Device) (*edge.Deployments, error) {
	return &edge.Deployments{Deployments: n.deployments}, nil
}

// put builds a package and puts it into the folder.
func put(t *testing.T, b fleet.Bucket, version string) edge.Definition {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "weights.bin"), []byte("version "+version), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "fraud-"+version+".tar.gz")
	if _, err := packaging.Build(t.Context(), packaging.BuildOptions{Name: "fraud", Version: version, Out: path, Variants: []packaging.BuildVariant{{Name: "any", Dir: dir}}}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	key := "packages/fraud-" + version + ".tar.gz"
	if err := b.Upload(t.Context(), key, f); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return edge.Definition{ModelHandle: "fraud", S3URL: b.URL(key), Checksum: edge.Checksum{Type: "SHA1", Sum: fmt.Sprintf("%x", sha1.Sum(data))}, State: edge.Deploy} // likewise
}

// TestDeploymentsOfAServer: without documents the device does what a server of the old API names, and reports.
func TestDeploymentsOfAServer(t *testing.T) {
	b, err := fleet.NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server := &named{}
	s := httptest.NewServer(edge.NewHandler(server, fleettest.Keys{}, slog.New(slog.DiscardHandler), nil))
	defer s.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client, err := fleettest.Client(s.URL, transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	loader := &fleettest.Loader{Bad: map[string]error{"9": errors.New("it is no good")}}
	dir := t.TempDir()
	start := func() *device.Agent {
		t.Helper()
		a, err := device.New(device.Options{Name: "till-1", Fleet: "pos", Group: "default", Bucket: b, Dir: dir, Loader: loader, Client: client, Version: "1"})
		if err != nil {
			t.Fatal(err)
		}
		a.Start(t.Context())
		return a
	}
	a := start()
	poll := func(id string, d edge.Definition, want string) error {
		t.Helper()
		server.deployments = []edge.Deployment{{DeploymentName: id, Type: "Model", Definitions: []edge.Definition{d}}}
		err := a.Poll(t.Context())
		if v := loader.Version("fraud"); v != want {
			t.Errorf("after deployment %s the device serves %q, want %q: %v", id, v, want, err)
		}
		return err
	}
	one, two := put(t, b, "1"), put(t, b, "2")
	if err := poll("d1", one, "1"); err != nil {
		t.Fatal(err)
	}
	if err := poll("d2", two, "2"); err != nil {
		t.Fatal(err)
	}
	if r := server.beats[len(server.beats)-1].DeploymentResult; r == nil || r.DeploymentName != "d2" || r.DeploymentModels[0].Status != edge.Success {
		t.Errorf("the device reported %+v", r)
	}
	_ = poll("d9", put(t, b, "9"), "2")
	if r := server.beats[len(server.beats)-1].DeploymentResult; r == nil || r.DeploymentName != "d9" || r.DeploymentModels[0].Status != edge.Fail || !strings.Contains(r.DeploymentModels[0].StatusReason, "no good") {
		t.Errorf("the device reported %+v", r)
	}
	for name, change := range map[string]func(*edge.Definition){
		"another checksum": func(d *edge.Definition) { d.Checksum.Sum = strings.Repeat("0", 40) },
		"no checksum":      func(d *edge.Definition) { d.Checksum = edge.Checksum{} },
		"a place outside":  func(d *edge.Definition) { d.S3URL = "s3://elsewhere/packages/fraud-1.tar.gz" },
		"a way out":        func(d *edge.Definition) { d.S3URL = b.URL("packages/../../fraud-1.tar.gz") },
		"no name":          func(d *edge.Definition) { d.ModelHandle = "../fraud" },
		"nothing there":    func(d *edge.Definition) { d.S3URL = b.URL("packages/none.tar.gz") },
	} {
		d := one
		change(&d)
		if err := poll(name, d, "2"); err == nil {
			t.Errorf("%s: no word of it", name)
		}
	}
	if err := loader.Unload(t.Context(), "fraud"); err != nil {
		t.Fatal(err)
	}
	a = start()
	if v := loader.Version("fraud"); v != "2" {
		t.Errorf("started again the device serves %q", v)
	}
	server.deployments = nil
	if err := a.Poll(t.Context()); err != nil || loader.Version("fraud") != "" {
		t.Errorf("with no deployment the device serves %q, %v", loader.Version("fraud"), err)
	}
}
