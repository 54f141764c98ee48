package hw

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"strings"
)

// armCores names the cores of AWS's and other common arm64 servers by
// implementer and part number of MIDR_EL1, as /proc/cpuinfo writes them:
// arm64 processors carry no brand name.
var armCores = map[[2]string]string{
	{"0x41", "0xd08"}: "Arm Cortex-A72 (Graviton1)",
	{"0x41", "0xd0c"}: "Arm Neoverse-N1 (Graviton2)",
	{"0x41", "0xd40"}: "Arm Neoverse-V1 (Graviton3)",
	{"0x41", "0xd49"}: "Arm Neoverse-N2",
	{"0x41", "0xd4f"}: "Arm Neoverse-V2 (Graviton4)",
	{"0xc0", "0xac3"}: "Ampere-1",
	{"0x46", "0x001"}: "Fujitsu A64FX",
}

// armModel names the first core in /proc/cpuinfo, or returns "".
func armModel(root fs.FS) string {
	text, err := readFile(root, "proc/cpuinfo")
	if err != nil {
		return ""
	}
	var key [2]string
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		name, value, _ := strings.Cut(sc.Text(), ":")
		switch strings.TrimSpace(name) {
		case "CPU implementer":
			key[0] = strings.TrimSpace(value)
		case "CPU part":
			key[1] = strings.TrimSpace(value)
		}
		if key[0] != "" && key[1] != "" {
			break
		}
	}
	if key[0] == "" || key[1] == "" {
		return ""
	}
	if name, ok := armCores[key]; ok {
		return name
	}
	return fmt.Sprintf("arm64 implementer %s part %s", key[0], key[1])
}
