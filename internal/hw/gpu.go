package hw

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"strings"
	"time"
)

// GPUReport is what asking for GPUs gave.
type GPUReport struct {
	GPUs   []GPU  `json:"gpus"`
	Reason string `json:"reason"`
}

// WriteGPUReport asks NVML in this process and writes the answer as JSON. It
// is the whole work of the program that Options.GPUCommand names.
func WriteGPUReport(ctx context.Context, w io.Writer) error {
	if err := json.NewEncoder(w).Encode(askNVML(ctx)); err != nil {
		return fmt.Errorf("writing the GPU report: %w", err)
	}
	return nil
}

// detectGPUs answers within the timeout whatever the driver does. The driver's
// library is not even opened where no driver is loaded: it is the one piece of
// foreign code in this package.
func detectGPUs(ctx context.Context, opts Options, p platform) GPUReport {
	if opts.NoGPU {
		return GPUReport{Reason: "GPUs were not looked for, as configured"}
	}
	if p.os == "linux" {
		if reason := driverAbsent(p.root); reason != "" {
			return GPUReport{Reason: reason}
		}
	}
	timeout := opts.GPUTimeout
	if timeout <= 0 {
		timeout = DefaultGPUTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	if len(opts.GPUCommand) > 0 {
		return askChild(ctx, opts.GPUCommand, timeout)
	}
	// A call into a hanging driver cannot be interrupted. The goroutine is
	// then left behind with its thread; the buffer lets it end if the driver
	// ever answers.
	answer := make(chan GPUReport, 1)
	go func() { answer <- p.gpus(ctx) }()
	select {
	case r := <-answer:
		return r
	case <-ctx.Done():
		return GPUReport{Reason: noAnswer(ctx, timeout)}
	}
}

func noAnswer(ctx context.Context, timeout time.Duration) string {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Sprintf("the NVIDIA driver did not answer within %v; see whether nvidia-smi does", timeout)
	}
	return "looking for GPUs was cancelled"
}

// driverAbsent returns "" where an NVIDIA driver is loaded, and otherwise why
// there are no GPUs to use. /dev/dxg is the driver's door under WSL.
func driverAbsent(root fs.FS) string {
	if exists(root, "proc/driver/nvidia/version") || exists(root, "dev/nvidiactl") || exists(root, "dev/dxg") {
		return ""
	}
	if address := pciGPU(root); address != "" {
		return fmt.Sprintf("an NVIDIA GPU is at PCI address %s but its driver is not loaded; install or load the NVIDIA driver", address)
	}
	return "no NVIDIA driver is loaded and no NVIDIA GPU is on the PCI bus"
}

// pciGPU returns the address of the first NVIDIA display or 3D controller.
func pciGPU(root fs.FS) string {
	const dir = "sys/bus/pci/devices"
	// Absent where there is no PCI bus, as in small virtual machines.
	entries, _ := fs.ReadDir(root, dir)
	for _, e := range entries {
		vendor, _ := readLine(root, dir+"/"+e.Name()+"/vendor")
		class, _ := readLine(root, dir+"/"+e.Name()+"/class")
		if vendor == "0x10de" && strings.HasPrefix(class, "0x03") {
			return e.Name()
		}
	}
	return ""
}

// maxReport bounds what is taken from the child: a report on 16 GPUs is 4 KB.
const maxReport = 1 << 20

// askChild runs command and reads its GPUReport.
func askChild(ctx context.Context, command []string, timeout time.Duration) GPUReport {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	// After the kill, do not wait for grandchildren that hold the pipe.
	cmd.WaitDelay = 100 * time.Millisecond
	out := &boundedBuffer{limit: maxReport}
	cmd.Stdout = out
	err := cmd.Run()
	if ctx.Err() != nil {
		return GPUReport{Reason: noAnswer(ctx, timeout)}
	}
	if err != nil {
		return GPUReport{Reason: fmt.Sprintf("the program that asks the NVIDIA driver failed (%v); see whether nvidia-smi works", err)}
	}
	var r GPUReport
	if err := json.Unmarshal(out.buffer.Bytes(), &r); err != nil {
		return GPUReport{Reason: fmt.Sprintf("the program that asks the NVIDIA driver gave no report: %v", err)}
	}
	return r
}

// boundedBuffer refuses what exceeds its limit. The buffer is not embedded:
// its ReadFrom would be preferred to Write and knows no limit.
type boundedBuffer struct {
	buffer bytes.Buffer
	limit  int
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.buffer.Len()+len(p) > b.limit {
		return 0, fmt.Errorf("more than %d bytes of output", b.limit)
	}
	return b.buffer.Write(p)
}
