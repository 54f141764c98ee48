package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/internal/testkit"
)

// peer is a server that others use for the same job.
type peer struct {
	name   string
	folder string // below bench/peers/servers
	// packages are those whose versions tell what it is.
	packages []string
	// How it can be asked.
	grpc, json, binary bool
	// unix says that it serves on a Unix socket and no port.
	unix bool
}

// peers are the servers that picketd is measured beside; goals are about those that have gRPC.
var peers = []peer{
	{name: "MLServer", folder: "mlserver", packages: []string{"mlserver", "mlserver-xgboost"}, grpc: true, json: true},
	{name: "KServe", folder: "kserve", packages: []string{"kserve"}, grpc: true, json: true},
	{name: "Triton", folder: "triton", packages: []string{"nvidia-pytriton"}, grpc: true, json: true, binary: true},
	{name: "FastAPI", folder: "fastapi", packages: []string{"fastapi", "uvicorn", "orjson"}, json: true, unix: true},
	{name: "LitServe", folder: "litserve", packages: []string{"litserve"}, json: true},
	{name: "BentoML", folder: "bentoml", packages: []string{"bentoml"}, json: true},
}

// absent are the servers that are never there, and why.
var absent = map[string]string{
	"Ray Serve": "its processes watch each other's heartbeats and do not survive being stopped while others are measured",
}

func (p *peer) script() string {
	return filepath.Join(testkit.ModuleRoot(), "bench/peers/servers/serve.sh")
}

// install installs the server unless it is there.
func (p *peer) install(ctx context.Context) error {
	c := exec.CommandContext(ctx, p.script(), p.folder)
	c.Stderr = os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("it could not be installed: %w", err)
	}
	return nil
}

// version tells what is installed, as its list of requirements pins it.
func (p *peer) version() (string, error) {
	f, err := os.Open(filepath.Join(testkit.ModuleRoot(), "bench/peers/servers", p.folder, "requirements.txt"))
	if err != nil {
		return "", fmt.Errorf("reading the versions of %s: %w", p.name, err)
	}
	defer f.Close()
	var found []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, version, _ := strings.Cut(lines.Text(), "==")
		if slices.Contains(p.packages, name) || name == "xgboost-cpu" {
			found = append(found, name+" "+version)
		}
	}
	return strings.Join(found, ", "), nil
}

// start starts the server with a model and gives the ways to ask it.
func (p *peer) start(dir, model string, ask protocols.Ask) (*process.Server, []*target, error) {
	version, err := p.version()
	if err != nil {
		return nil, nil, err
	}
	free, err := process.Ports(2)
	if err != nil {
		return nil, nil, err
	}
	folder := filepath.Join(dir, p.folder)
	arguments := []string{p.folder, model, ask.Model, process.PortOf(free[0]), process.PortOf(free[1])}
	if p.unix {
		free[0] = filepath.Join(folder, "sock")
		arguments = append(arguments[:3], free[0])
	}
	s, err := process.Launch(folder, p.name, p.script(), arguments...)
	if err != nil {
		return nil, nil, err
	}
	s.Version = version
	http, grpc := ask, ask
	http.Address, grpc.Address = free[0], free[1]
	var targets []*target
	if p.grpc {
		targets = append(targets, &target{s, grpcOIP, grpc, each(protocols.Ask.OIP)})
	}
	if p.json {
		targets = append(targets, &target{s, httpJSON, http, overHTTP(protocols.JSON)})
	}
	if p.binary {
		targets = append(targets, &target{s, httpBinary, http, overHTTP(protocols.Binary)})
	}
	return s, targets, nil
}
