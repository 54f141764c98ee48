package neo

import (
	"fmt"
	"strings"

	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/internal/hw"
)

// neoLevels is the instruction set that Neo's compiler may use for a target
// device, where that is more than the oldest host still in service has.
var neoLevels = map[string]hw.Level{
	"ml_c4": hw.X86V3, "ml_m4": hw.X86V3, // core-avx2
	"ml_c5": hw.X86V4, "ml_m5": hw.X86V4, // skylake-avx512
}

// Doubt says, for the log, why code of the library may end the process with an
// illegal instruction on this host, or is empty where nothing speaks for that.
//
// It is no reason to refuse. The target device is what a compilation job was
// asked for, and compilers used less than that: the code of trees is branches,
// and artifacts that name ML_C5 are met without one AVX-512 instruction. Nor can
// the machine code be asked, short of disassembling all of it. What does refuse is
// what the compiler or the linker said of its own work: Metadata.CheckHost, and
// the property note that CheckLibrary reads. Where either spoke, there is no
// doubt.
func (m Metadata) Doubt(host *hw.Host, o *dl.Object) string {
	level := neoLevels[strings.ToLower(m.TargetDevice)]
	if level == "" || m.CPULevel != "" || o.X86Level > 0 || host.CPU.Arch != "amd64" || host.CPU.Level.Runs(level) {
		return ""
	}
	return fmt.Sprintf("%s was compiled for target device %s, where Neo may use %s; this host is %s%s; "+
		"if the process ends with SIGILL, compile the model for this host", o.Name, m.TargetDevice, level, host.CPU.Level, lacking(level, host))
}
