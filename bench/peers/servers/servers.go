// Package servers starts the servers that others use for the job that picketd does, each with a model of XGBoost, some with a network. Their programs
// are installed on first use, below .cache/peers of the source.
package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/picket-ml/picket/bench/process"
	"github.com/picket-ml/picket/bench/source"
)

// Kind is a server that others use.
type Kind struct {
	Name   string
	Folder string // below bench/peers/servers
	// packages are those whose versions tell what it is.
	packages []string
	// How it can be asked.
	GRPC, JSON, Binary bool
	// Networks says that it serves ONNX files, too.
	Networks bool
	// unix says that it serves on a Unix socket and no port.
	unix bool
}

// All are the servers that picketd is measured beside.
func All() []Kind {
	return []Kind{
		{Name: "MLServer", Folder: "mlserver", packages: []string{"mlserver", "mlserver-xgboost"}, GRPC: true, JSON: true, Networks: true},
		{Name: "KServe", Folder: "kserve", packages: []string{"kserve"}, GRPC: true, JSON: true},
		{Name: "Triton", Folder: "triton", packages: []string{"nvidia-pytriton"}, GRPC: true, JSON: true, Binary: true, Networks: true},
		{Name: "FastAPI", Folder: "fastapi", packages: []string{"fastapi", "uvicorn", "orjson"}, JSON: true, unix: true},
		{Name: "LitServe", Folder: "litserve", packages: []string{"litserve"}, JSON: true},
		{Name: "BentoML", Folder: "bentoml", packages: []string{"bentoml"}, JSON: true},
		{Name: "Ray Serve", Folder: "rayserve", packages: []string{"ray"}, JSON: true},
	}
}

func script() string { return filepath.Join(source.Root(), "bench/peers/servers/serve.sh") }

// Install installs the server unless it is there.
func (k *Kind) Install(ctx context.Context) error {
	c := exec.CommandContext(ctx, script(), k.Folder)
	c.Stderr = os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("it could not be installed: %w", err)
	}
	return nil
}

// Installed tells whether it is there.
func (k *Kind) Installed() bool {
	_, err := os.Stat(filepath.Join(source.Root(), ".cache/peers", k.Folder, "installed.txt"))
	return err == nil
}

// Version tells what is installed, as its list of requirements pins it.
func (k *Kind) Version() (string, error) {
	f, err := os.Open(filepath.Join(source.Root(), "bench/peers/servers", k.Folder, "requirements.txt"))
	if err != nil {
		return "", fmt.Errorf("reading the versions of %s: %w", k.Name, err)
	}
	defer f.Close()
	var found []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, version, _ := strings.Cut(lines.Text(), "==")
		if slices.Contains(k.packages, name) || name == "xgboost-cpu" || name == "onnxruntime" {
			found = append(found, name+" "+version)
		}
	}
	if len(found) == 0 {
		return "", errors.Join(lines.Err(), fmt.Errorf("reading the versions of %s: its requirements do not name it", k.Name))
	}
	return strings.Join(found, ", "), lines.Err()
}

// Running is a server that was started, with where it answers; not all do over both.
type Running struct {
	*process.Server
	HTTP, GRPC string
}

// Start starts the server with the model in a file, which clients call name, with a folder of its own below dir.
func (k *Kind) Start(dir, model, name string) (*Running, error) {
	version, err := k.Version()
	if err != nil {
		return nil, err
	}
	free, err := process.Ports(2)
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(dir, k.Folder)
	arguments := []string{k.Folder, model, name, process.PortOf(free[0]), process.PortOf(free[1])}
	if k.unix {
		free[0] = filepath.Join(folder, "sock")
		arguments = append(arguments[:3], free[0])
	}
	s, err := process.Launch(folder, k.Name, script(), arguments...)
	if err != nil {
		return nil, err
	}
	s.Version = version
	return &Running{s, free[0], free[1]}, nil
}
