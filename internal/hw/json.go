package hw

import "encoding/json"

// MarshalJSON writes the host as `picket info --json` shows it: the processor
// under cpu, cores_allowed and instance_type at the top, arrays never null.
func (h Host) MarshalJSON() ([]byte, error) {
	cpu := h.CPU
	cpu.Masked, cpu.Affinity, cpu.Caches = orEmpty(cpu.Masked), orEmpty(cpu.Affinity), orEmpty(cpu.Caches)
	memory := h.Memory
	memory.HugePages = orEmpty(memory.HugePages)
	numa := make([]NUMANode, 0, len(h.NUMA))
	for _, n := range h.NUMA {
		n.CPUs, n.Distances = orEmpty(n.CPUs), orEmpty(n.Distances)
		numa = append(numa, n)
	}
	return json.Marshal(struct {
		CPU          CPU        `json:"cpu"`
		CoresAllowed float64    `json:"cores_allowed"`
		Memory       Memory     `json:"memory"`
		NUMA         []NUMANode `json:"numa"`
		NUMAReason   string     `json:"numa_reason,omitempty"`
		GPUs         []GPU      `json:"gpus"`
		GPUReason    string     `json:"gpu_reason"`
		InstanceType string     `json:"instance_type"`
		Instance     Instance   `json:"instance"`
		OS           string     `json:"os"`
		Kernel       string     `json:"kernel"`
		Glibc        string     `json:"glibc"`
		GlibcReason  string     `json:"glibc_reason,omitempty"`
		Fingerprint  string     `json:"fingerprint"`
	}{
		CPU: cpu, CoresAllowed: h.CPU.CoresAllowed, Memory: memory,
		NUMA: numa, NUMAReason: h.NUMAReason,
		GPUs: orEmpty(h.GPUs), GPUReason: h.GPUReason,
		InstanceType: h.Instance.Type, Instance: h.Instance,
		OS: h.OS, Kernel: h.Kernel, Glibc: h.Glibc, GlibcReason: h.GlibcReason,
		Fingerprint: h.Fingerprint(),
	})
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
