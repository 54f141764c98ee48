// Package hw says what this host can do: its processor and the share of it the
// process may use, memory, NUMA nodes, GPUs, and the EC2 instance it is.
//
// Nothing in this package fails. What cannot be found out is left zero and a
// neighbouring Reason field says why in one sentence, because the people who
// read `picket info` need the reason more than an error code, and because no
// missing fact about a host is worth a daemon that does not start.
package hw

// Host is a description of the machine as this process may use it. It is a
// plain value: Detect fills it once and hands it over, nothing changes it
// later, and any number of goroutines may read it.
type Host struct {
	CPU    CPU
	Memory Memory

	// NUMA lists the nodes with CPUs or memory, by ID. NUMAReason says why it
	// is empty.
	NUMA       []NUMANode
	NUMAReason string

	// GPUs lists the NVIDIA GPUs by NVML index. GPUReason says why it is
	// empty, or what could not be learnt about a GPU that is listed.
	GPUs      []GPU
	GPUReason string

	// Instance is filled by DetectInstance or from the configuration. Detect
	// itself never talks to the network.
	Instance Instance

	OS     string // runtime.GOOS, "linux"
	Kernel string // kernel release as uname prints it, "6.1.0-23-amd64"
	// Glibc is the version of the C library that dlopen would bind to, "2.36".
	// GlibcReason says why it is empty.
	Glibc       string
	GlibcReason string
}

// CPU is the processor, and how much of it this process may use.
type CPU struct {
	Arch        string `json:"arch"`   // runtime.GOARCH, "amd64" or "arm64"
	Vendor      string `json:"vendor"` // "GenuineIntel", "AuthenticAMD", "Arm Limited"
	Model       string `json:"model"`  // brand name, or the core's name on arm64
	Family      int    `json:"family"`
	ModelNumber int    `json:"model_number"`
	Stepping    int    `json:"stepping"`

	// Level is the highest instruction set level whose features are all in
	// Features.
	Level Level `json:"level"`
	// Features is what code may use: present, enabled by the operating
	// system, and not masked.
	Features Features `json:"features"`
	// Masked names the features the processor has and the mask took away,
	// sorted. MaskReason says why a mask was not applied.
	Masked     []string `json:"masked"`
	MaskReason string   `json:"mask_reason,omitempty"`

	Sockets int `json:"sockets"` // physical packages online, 0 if unknown
	Cores   int `json:"cores"`   // physical cores online, 0 if unknown
	Threads int `json:"threads"` // logical CPUs online

	// CoresAllowed is the smaller of len(Affinity) and the cgroup quota: how
	// many logical CPUs' worth of time this process gets, above 0.
	CoresAllowed float64 `json:"-"`
	// Affinity lists the logical CPUs the kernel lets this process run on,
	// ascending. AffinityReason says why it is empty.
	Affinity       []int  `json:"affinity"`
	AffinityReason string `json:"affinity_reason,omitempty"`
	Quota          Quota  `json:"quota"`

	// Caches are those of the first CPU in Affinity, by level and type.
	// CachesReason says why it is empty or incomplete.
	Caches       []Cache `json:"caches"`
	CachesReason string  `json:"caches_reason,omitempty"`
}

// Quota is the CPU time limit of the control groups this process is in.
type Quota struct {
	// Cores is the limit in logical CPUs' worth of time; 0 means unlimited.
	Cores float64 `json:"cores"`
	// Group is the control group that sets it, "/system.slice/x.service".
	Group string `json:"group"`
	// Reason says why there is no limit: none is set, or none can be read.
	Reason string `json:"reason,omitempty"`
}

// Cache is one processor cache as one CPU sees it.
type Cache struct {
	Level    int    `json:"level"`     // 1, 2, 3
	Type     string `json:"type"`      // "data", "instruction" or "unified"
	Size     int64  `json:"size"`      // bytes
	Line     int    `json:"line"`      // bytes, 0 if unknown
	SharedBy int    `json:"shared_by"` // logical CPUs sharing it, 0 if unknown
}

// Memory is main memory and the limits on it that bear on this process.
type Memory struct {
	Total     uint64 `json:"total"`            // bytes of the machine, 0 if unknown
	Available uint64 `json:"available"`        // bytes the kernel thinks can be had without swapping
	Reason    string `json:"reason,omitempty"` // why Total is 0

	// Cgroup is the smallest memory limit of this process's control groups.
	Cgroup Limit `json:"cgroup"`
	// Memlock is RLIMIT_MEMLOCK (soft): how much may be pinned.
	Memlock Limit `json:"memlock"`

	// HugePages are the pools the kernel keeps, by page size ascending.
	HugePages []HugePages `json:"huge_pages"`
	// TransparentHugePages is "always", "madvise", "never", or empty.
	TransparentHugePages string `json:"transparent_huge_pages"`
}

// Usable is how many bytes the process may use: what the machine has, or its control groups allow; 0 if unknown.
func (m *Memory) Usable() uint64 {
	if group := m.Cgroup; group.Bytes > 0 && (m.Total == 0 || group.Bytes < m.Total) {
		return group.Bytes
	}
	return m.Total
}

// Limit is an amount of memory that may not be exceeded. The zero value is
// "unknown"; then Reason says why.
type Limit struct {
	Bytes     uint64 `json:"bytes"` // meaningful unless Unlimited or Reason is set
	Unlimited bool   `json:"unlimited"`
	Reason    string `json:"reason,omitempty"`
}

// HugePages is one pool of huge pages.
type HugePages struct {
	Size  uint64 `json:"size"`  // bytes per page
	Total int    `json:"total"` // pages in the pool
	Free  int    `json:"free"`  // pages not handed out
}

// NUMANode is a set of CPUs and the memory near to them.
type NUMANode struct {
	ID        int    `json:"id"`
	CPUs      []int  `json:"cpus"`      // logical CPUs of the node, ascending; not cut down to the affinity
	Memory    uint64 `json:"memory"`    // bytes
	Free      uint64 `json:"free"`      // bytes
	Distances []int  `json:"distances"` // to each node in ID order, 10 = itself
}

// GPU is one NVIDIA GPU.
type GPU struct {
	Index             int    `json:"index"`
	Name              string `json:"name"` // "NVIDIA A100-SXM4-40GB"
	UUID              string `json:"uuid"`
	Memory            uint64 `json:"memory"`             // bytes
	ComputeCapability string `json:"compute_capability"` // "8.0"
	Driver            string `json:"driver"`             // "550.54.15"
	CUDA              string `json:"cuda"`               // highest CUDA version the driver supports, "12.4"
	// MIG are the instances that it was cut into, none where it was not.
	MIG    []MIGInstance `json:"mig,omitempty"`
	Reason string        `json:"reason,omitempty"` // what could not be read about this GPU
}

// MIGInstance is a part of a GPU that programs see as a device of its own.
type MIGInstance struct {
	Name   string `json:"name"`   // "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
	UUID   string `json:"uuid"`   // "MIG-..."
	Memory uint64 `json:"memory"` // bytes, 0 if unknown
}

// Instance is the EC2 instance this host is.
type Instance struct {
	Type             string `json:"type"`   // "m5.4xlarge"
	Family           string `json:"family"` // "m5"
	ID               string `json:"id"`     // "i-0123456789abcdef0"
	Region           string `json:"region"`
	AvailabilityZone string `json:"availability_zone"`
	OutpostARN       string `json:"outpost_arn"` // empty off Outposts
	// Outposts says in words on which Outposts hardware this family runs, or
	// that the family is not known to run on any.
	Outposts string `json:"outposts"`
	// Source is "imds", "configuration", or empty when Type is.
	Source string `json:"source"`
	// Reason says why a field is empty.
	Reason string `json:"reason,omitempty"`
}
