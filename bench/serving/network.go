package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/picket-ml/picket/bench/source"
)

// The network that -network has served: 30-64-32-1 with a sigmoid at the end, some microseconds a row, so that what is measured is the servers.
const (
	networkName     = "network-30-64-32-1"
	networkFeatures = 30
)

func networkFile() string {
	return filepath.Join(source.Root(), "backends/onnx/testdata/nets/mlp/model.onnx")
}

// networkNames gives the network's tensors the names that all clients here use.
const networkNames = `{"Model": {"Inputs": [{"name": "data", "dtype": "float32", "shape": [-1, 30]}], "Outputs": [{"name": "output", "dtype": "float32", "shape": [-1, 1]}]}}`

// networkFolder is an artifact below dir for picketd.
func networkFolder(dir string) (string, error) {
	folder := filepath.Join(dir, "network")
	data, err := os.ReadFile(networkFile())
	if err != nil {
		return "", fmt.Errorf("reading the network: %w", err)
	}
	err = errors.Join(os.Mkdir(folder, 0o700), os.WriteFile(filepath.Join(folder, "model.onnx"), data, 0o600),
		os.WriteFile(filepath.Join(folder, "compiled.meta"), []byte(networkNames), 0o600))
	if err != nil {
		return "", fmt.Errorf("making a folder for the network: %w", err)
	}
	return folder, nil
}
