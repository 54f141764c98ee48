package hw

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// childMode makes the test binary play the program of Options.GPUCommand.
const childMode = "PICKET_TEST_GPU_CHILD"

func playChild(mode string) int {
	switch mode {
	case "report":
		if json.NewEncoder(os.Stdout).Encode(GPUReport{GPUs: []GPU{{Name: "NVIDIA T4", Memory: 16 << 30}}}) != nil {
			return 1
		}
	case "crash":
		return 139
	case "hang":
		time.Sleep(time.Hour)
	case "chatter":
		fmt.Println("loading driver...")
	case "flood":
		for range 64 {
			fmt.Printf("%s", bytes.Repeat([]byte(" "), maxReport/32))
		}
	}
	return 0
}

// withDriver is a root on which an NVIDIA driver is loaded.
func withDriver() fstest.MapFS {
	root := twoSocketFiles()
	root["proc/driver/nvidia/version"] = &fstest.MapFile{Data: []byte("NVRM version: ...")}
	return root
}

func TestGPUChild(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[string]string{
		"report":  "",
		"crash":   "failed (exit status 139)",
		"hang":    "did not answer within",
		"chatter": "gave no report",
		"flood":   "failed",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Setenv(childMode, mode)
			timeout := 30 * time.Second
			if mode == "hang" {
				timeout = 50 * time.Millisecond
			}
			h := detect(t.Context(), Options{GPUCommand: []string{self}, GPUTimeout: timeout}, fakePlatform(withDriver()))
			if !strings.Contains(h.GPUReason, want) || (want == "") != (h.GPUReason == "") {
				t.Errorf("reason %q, want %q", h.GPUReason, want)
			}
			if got := len(h.GPUs); got != map[bool]int{true: 1, false: 0}[want == ""] {
				t.Errorf("%d GPUs", got)
			}
		})
	}
}

func TestHangingDriverDoesNotHoldDetection(t *testing.T) {
	p := fakePlatform(withDriver())
	release := make(chan struct{})
	p.gpus = func(context.Context) GPUReport { <-release; return GPUReport{} }
	h := detect(t.Context(), Options{GPUTimeout: 10 * time.Millisecond}, p)
	close(release)
	if !strings.Contains(h.GPUReason, "did not answer within 10ms") {
		t.Errorf("reason %q", h.GPUReason)
	}
}

func TestDriverIsAskedOnlyWhereLoaded(t *testing.T) {
	pci := twoSocketFiles()
	pci["sys/bus/pci/devices/0000:00:1e.0/vendor"] = &fstest.MapFile{Data: []byte("0x10de\n")}
	pci["sys/bus/pci/devices/0000:00:1e.0/class"] = &fstest.MapFile{Data: []byte("0x030200\n")}
	for name, tt := range map[string]struct {
		root fstest.MapFS
		opts Options
		want string
	}{
		"loaded":             {withDriver(), Options{}, "the fake driver was asked"},
		"switched off":       {withDriver(), Options{NoGPU: true}, "as configured"},
		"no GPU":             {twoSocketFiles(), Options{}, "no NVIDIA driver is loaded"},
		"GPU without driver": {pci, Options{}, "PCI address 0000:00:1e.0 but its driver is not loaded"},
		"bare container":     {fstest.MapFS{}, Options{}, "no NVIDIA driver is loaded"},
	} {
		if h := detect(t.Context(), tt.opts, fakePlatform(tt.root)); !strings.Contains(h.GPUReason, tt.want) {
			t.Errorf("%s: reason %q, want %q", name, h.GPUReason, tt.want)
		}
	}
}
