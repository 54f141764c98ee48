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
	Arch        string // runtime.GOARCH, "amd64" or "arm64"
	Vendor      string // "GenuineIntel", "AuthenticAMD", "Arm Limited"
	Model       string // brand name, or the core's name on arm64
	Family      int
	ModelNumber int
	Stepping    int

	// Level is the highest instruction set level whose features are all in
	// Features.
	Level Level
	// Features is what code may use: present, enabled by the operating
	// system, and not masked.
	Features Features
	// Masked names the features the processor has and the mask took away,
	// sorted. MaskReason says why a mask was not applied.
	Masked     []string
	MaskReason string

	Sockets int // physical packages online, 0 if unknown
	Cores   int // physical cores online, 0 if unknown
	Threads int // logical CPUs online

	// CoresAllowed is the smaller of len(Affinity) and the cgroup quota: how
	// many logical CPUs' worth of time this process gets, above 0.
	CoresAllowed float64
	// Affinity lists the logical CPUs the kernel lets this process run on,
	// ascending. AffinityReason says why it is empty.
	Affinity       []int
	AffinityReason string
	Quota          Quota

	// Caches are those of the first CPU in Affinity, by level and type.
	// CachesReason says why it is empty or incomplete.
	Caches       []Cache
	CachesReason string
}

// Quota is the CPU time limit of the control groups this process is in.
type Quota struct {
	// Cores is the limit in logical CPUs' worth of time; 0 means unlimited.
	Cores float64
	// Group is the control group that sets it, "/system.slice/x.service".
	Group string
	// Reason says why there is no limit: none is set, or none can be read.
	Reason string
}

// Cache is one processor cache as one CPU sees it.
type Cache struct {
	Level    int    // 1, 2, 3
	Type     string // "data", "instruction" or "unified"
	Size     int64  // bytes
	Line     int    // bytes, 0 if unknown
	SharedBy int    // logical CPUs sharing it, 0 if unknown
}

// Memory is main memory and the limits on it that bear on this process.
type Memory struct {
	Total     uint64 // bytes of the machine, 0 if unknown
	Available uint64 // bytes the kernel thinks can be had without swapping
	Reason    string // why Total is 0

	// Cgroup is the smallest memory limit of this process's control groups.
	Cgroup Limit
	// Memlock is RLIMIT_MEMLOCK (soft): how much may be pinned.
	Memlock Limit

	// HugePages are the pools the kernel keeps, by page size ascending.
	HugePages []HugePages
	// TransparentHugePages is "always", "madvise", "never", or empty.
	TransparentHugePages string
}

// Limit is an amount of memory that may not be exceeded. The zero value is
// "unknown"; then Reason says why.
type Limit struct {
	Bytes     uint64 // meaningful unless Unlimited or Reason is set
	Unlimited bool
	Reason    string
}

// HugePages is one pool of huge pages.
type HugePages struct {
	Size  uint64 // bytes per page
	Total int    // pages in the pool
	Free  int    // pages not handed out
}

// NUMANode is a set of CPUs and the memory near to them.
type NUMANode struct {
	ID        int
	CPUs      []int  // logical CPUs of the node, ascending; not cut down to the affinity
	Memory    uint64 // bytes
	Free      uint64 // bytes
	Distances []int  // to each node in ID order, 10 = itself
}

// GPU is one NVIDIA GPU.
type GPU struct {
	Index             int
	Name              string // "NVIDIA A100-SXM4-40GB"
	UUID              string
	Memory            uint64 // bytes
	ComputeCapability string // "8.0"
	Driver            string // "550.54.15"
	CUDA              string // highest CUDA version the driver supports, "12.4"
	Reason            string // what could not be read about this GPU
}

// Instance is the EC2 instance this host is.
type Instance struct {
	Type             string // "m5.4xlarge"
	Family           string // "m5"
	ID               string // "i-0123456789abcdef0"
	Region           string
	AvailabilityZone string
	OutpostARN       string // empty off Outposts
	// Outposts says in words on which Outposts hardware this family runs, or
	// that the family is not known to run on any.
	Outposts string
	// Source is "imds", "configuration", or empty when Type is.
	Source string
	// Reason says why a field is empty.
	Reason string
}
