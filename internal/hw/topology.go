package hw

import (
	"fmt"
	"io/fs"
)

// topology counts what is online.
type topology struct{ sockets, cores, threads int }

// readTopology counts sockets, cores and threads from sysfs; false when the
// kernel does not say.
func readTopology(root fs.FS) (topology, bool) {
	const dir = "sys/devices/system/cpu"
	line, err := readLine(root, dir+"/online")
	if err != nil {
		return topology{}, false
	}
	cpus, err := ParseCPUs(line)
	if err != nil || len(cpus) == 0 {
		return topology{}, false
	}
	sockets := map[int64]bool{}
	// Core numbers start again in each socket.
	cores := map[[2]int64]bool{}
	for _, cpu := range cpus {
		base := fmt.Sprintf("%s/cpu%d/topology/", dir, cpu)
		socket, err := readInt(root, base+"physical_package_id")
		if err != nil {
			return topology{}, false
		}
		core, err := readInt(root, base+"core_id")
		if err != nil {
			return topology{}, false
		}
		sockets[socket] = true
		cores[[2]int64{socket, core}] = true
	}
	return topology{sockets: len(sockets), cores: len(cores), threads: len(cpus)}, true
}
