package hw

import (
	"fmt"
	"io/fs"
	"sort"
	"strconv"
	"strings"
)

// readNUMA lists the NUMA nodes, or says why none is listed. A node whose
// description is damaged keeps what could be read.
func readNUMA(root fs.FS) ([]NUMANode, string) {
	const dir = "sys/devices/system/node"
	entries, err := fs.ReadDir(root, dir)
	if err != nil {
		return nil, fmt.Sprintf("the kernel does not describe NUMA nodes: /%s cannot be read", dir)
	}
	var nodes []NUMANode
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), "node")
		if !ok {
			continue
		}
		id, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			continue
		}
		nodes = append(nodes, readNode(root, dir+"/"+e.Name(), int(id)))
	}
	if len(nodes) == 0 {
		return nil, fmt.Sprintf("the kernel lists no NUMA node in /%s", dir)
	}
	sort.Slice(nodes, func(i, j int) bool { return nodes[i].ID < nodes[j].ID })
	return nodes, ""
}

func readNode(root fs.FS, dir string, id int) NUMANode {
	n := NUMANode{ID: id}
	if list, err := readLine(root, dir+"/cpulist"); err == nil {
		n.CPUs, _ = ParseCPUs(list)
	}
	if text, err := readFile(root, dir+"/meminfo"); err == nil {
		// "Node 0 MemTotal:  32768000 kB": the prefix is the node's own.
		info := parseMeminfo(text, fmt.Sprintf("Node %d ", id))
		n.Memory, n.Free = info["MemTotal"], info["MemFree"]
	}
	if line, err := readLine(root, dir+"/distance"); err == nil {
		for field := range strings.FieldsSeq(line) {
			d, err := strconv.Atoi(field)
			if err != nil {
				n.Distances = nil
				break
			}
			n.Distances = append(n.Distances, d)
		}
	}
	return n
}
