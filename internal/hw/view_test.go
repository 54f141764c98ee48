package hw

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestJSONShape(t *testing.T) {
	for name, h := range map[string]*Host{
		"empty":    {},
		"detected": detect(t.Context(), Options{Mask: "avx512f"}, fakePlatform(twoSocketFiles())),
	} {
		text, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		var view struct {
			CPU struct {
				Features []string
				Level    *string
				Masked   []string
			}
			CoresAllowed *float64 `json:"cores_allowed"`
			GPUs         []any
			GPUReason    *string `json:"gpu_reason"`
			InstanceType *string `json:"instance_type"`
		}
		if err := json.Unmarshal(text, &view); err != nil {
			t.Fatal(err)
		}
		if view.CPU.Features == nil || view.CPU.Level == nil || view.CoresAllowed == nil || view.GPUs == nil ||
			view.GPUReason == nil || view.InstanceType == nil {
			t.Errorf("%s: something fixed is missing or null in %s", name, text)
		}
		if bytes.Contains(text, []byte("null")) {
			t.Errorf("%s: a null in %s", name, text)
		}
		if name == "detected" && (strings.Join(view.CPU.Features, " ") != "sse4.2 avx avx2 fma bmi2 f16c" || len(view.CPU.Masked) != 5) {
			t.Errorf("features %v, masked %v", view.CPU.Features, view.CPU.Masked)
		}
	}
}

func TestTable(t *testing.T) {
	h := detect(t.Context(), Options{Mask: "avx512vnni", InstanceType: "m5.2xlarge"}, fakePlatform(twoSocketFiles()))
	h.CPU.Vendor = "Genuine\x1b[31mIntel"
	h.GPUs = []GPU{{Name: "NVIDIA T4", Memory: 16 << 30, ComputeCapability: "7.5", Driver: "550.54.15", CUDA: "12.4", UUID: "GPU-1"}}
	var out strings.Builder
	if err := h.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"8 logical CPUs on 4 cores in 2 sockets",
		"1.5 of them: CPUs 2-3,6; quota of 1.5 cores set by control group /",
		"L1d 32 KiB shared by 2 CPUs, L1i 32 KiB shared by 2 CPUs, L2 1 MiB shared by 2 CPUs, L3 33 MiB shared by 4 CPUs",
		"masked avx512vnni", "level x86-64-v4",
		"numa node 1 CPUs 2-3,6-7, 2 GiB",
		"NVIDIA T4, 16 GiB, compute capability 7.5, driver 550.54.15, CUDA 12.4",
		"m5.2xlarge (Outposts: first generation rack), from configuration",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("table lacks %q:\n%s", want, out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		if strings.ContainsRune(line, '\x1b') || utf8.RuneCountInString(line) > 101 {
			t.Errorf("line not fit for a terminal: %q", line)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestTableReportsWriteErrors(t *testing.T) {
	if err := (&Host{}).WriteTable(fullDisk{}); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error %v", err)
	}
}

func TestFingerprint(t *testing.T) {
	base := detect(t.Context(), Options{}, fakePlatform(twoSocketFiles()))
	again := detect(t.Context(), Options{InstanceType: "m5.large"}, fakePlatform(twoSocketFiles()))
	again.Memory.Total, again.CPU.CoresAllowed = 1, 1
	if base.Fingerprint() != again.Fingerprint() || len(base.Fingerprint()) != 16 {
		t.Errorf("%s and %s: want equal, 16 digits", base.Fingerprint(), again.Fingerprint())
	}
	seen := map[string]string{base.Fingerprint(): "base"}
	for what, change := range map[string]func(*Host){
		"model":   func(h *Host) { h.CPU.Model += "x" },
		"mask":    func(h *Host) { h.CPU.Features &^= FeaturesOf(AVX512VNNI) },
		"cache":   func(h *Host) { h.CPU.Caches = h.CPU.Caches[:1] },
		"GPU":     func(h *Host) { h.GPUs = []GPU{{Name: "a"}} },
		"two GPU": func(h *Host) { h.GPUs = []GPU{{Name: "a"}, {Name: "a"}} },
	} {
		h := *base
		change(&h)
		if other, ok := seen[h.Fingerprint()]; ok {
			t.Errorf("a change of %s is not seen (same as %s)", what, other)
		}
		seen[h.Fingerprint()] = what
	}
}

func TestWithInstanceLeavesTheOriginal(t *testing.T) {
	h := &Host{OS: "linux"}
	c := h.WithInstance(Instance{Type: "m5.large"})
	if h.Instance.Type != "" || c.Instance.Type != "m5.large" || c.OS != "linux" {
		t.Errorf("original %+v, copy %+v", h.Instance, c.Instance)
	}
}
