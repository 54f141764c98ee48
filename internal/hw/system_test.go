package hw

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

// twoSocketFiles is the shape of an m5-like host: 2 sockets, 2 cores each, 2
// threads per core, one NUMA node per socket.
func twoSocketFiles() fstest.MapFS {
	content := map[string]string{
		"sys/devices/system/cpu/online":                              "0-7\n",
		"sys/devices/system/node/node0/cpulist":                      "0-1,4-5\n",
		"sys/devices/system/node/node0/meminfo":                      "Node 0 MemTotal:       1048576 kB\nNode 0 MemFree:         524288 kB\n",
		"sys/devices/system/node/node0/distance":                     "10 21\n",
		"sys/devices/system/node/node1/cpulist":                      "2-3,6-7\n",
		"sys/devices/system/node/node1/meminfo":                      "Node 1 MemTotal:       2097152 kB\n",
		"sys/devices/system/node/node1/distance":                     "21 10\n",
		"sys/devices/system/node/possible":                           "0-1\n",
		"proc/meminfo":                                               "MemTotal:        3145728 kB\nMemAvailable:    1048576 kB\nHugePages_Total:       0\n",
		"sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages":   "1\n",
		"sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages": "0\n",
		"sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages":      "64\n",
		"sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages":    "60\n",
		"sys/kernel/mm/transparent_hugepage/enabled":                 "always [madvise] never\n",
		"proc/self/cgroup":                                           "0::/\n",
		"proc/self/mountinfo":                                        mountV2,
		"sys/fs/cgroup/cpu.max":                                      "150000 100000\n",
		"sys/bus/pci/devices/x/vendor":                               "0x8086\n",
		"sys/bus/pci/devices/x/class":                                "0x030000\n",
		"sys/devices/system/cpu/cpu2/x":                              "",
	}
	topology := func(cpu, socket, core string) {
		content["sys/devices/system/cpu/cpu"+cpu+"/topology/physical_package_id"] = socket + "\n"
		content["sys/devices/system/cpu/cpu"+cpu+"/topology/core_id"] = core + "\n"
	}
	for i, cpu := range []string{"0", "1", "2", "3", "4", "5", "6", "7"} {
		topology(cpu, []string{"0", "1"}[i%4/2], []string{"0", "1"}[i%2])
	}
	cache := func(index, level, kind, size, shared string) {
		dir := "sys/devices/system/cpu/cpu2/cache/" + index + "/"
		content[dir+"level"], content[dir+"type"], content[dir+"size"] = level+"\n", kind+"\n", size+"\n"
		content[dir+"coherency_line_size"], content[dir+"shared_cpu_list"] = "64\n", shared+"\n"
	}
	cache("index3", "3", "Unified", "33792K", "2-3,6-7")
	cache("index0", "1", "Data", "32K", "2,6")
	cache("index1", "1", "Instruction", "32K", "2,6")
	cache("index2", "2", "Unified", "1M", "2,6")
	return files(content)
}

// cascadeLake is a processor like an m5's.
func cascadeLake() processor {
	return processor{
		vendor: "GenuineIntel", model: "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz",
		family: 6, number: 85, stepping: 7, ceiling: 4,
		features: x86Levels[3].need | FeaturesOf(AVX512VNNI),
		caches:   []Cache{{Level: 1, Type: "data", Size: 32 << 10, Line: 64}},
	}
}

// fakePlatform is an amd64 Linux host without GPU, restricted by a cpuset to
// CPUs 2, 3 and 6.
func fakePlatform(root fstest.MapFS) platform {
	return platform{
		os: "linux", arch: "amd64", root: root, cpu: cascadeLake, cpusAtStart: 8,
		affinity: func() ([]int, error) { return []int{2, 3, 6}, nil },
		kernel:   func() (string, error) { return "6.1.0", nil },
		memlock:  func() Limit { return Limit{Bytes: 8 << 20} },
		gpus: func(context.Context) GPUReport {
			return GPUReport{Reason: "the fake driver was asked"}
		},
	}
}

func TestDetectOnAFakeHost(t *testing.T) {
	h := detect(t.Context(), Options{}, fakePlatform(twoSocketFiles()))
	if h.CPU.Sockets != 2 || h.CPU.Cores != 4 || h.CPU.Threads != 8 {
		t.Errorf("topology = %d sockets, %d cores, %d threads; want 2, 4, 8", h.CPU.Sockets, h.CPU.Cores, h.CPU.Threads)
	}
	if h.CPU.CoresAllowed != 1.5 {
		t.Errorf("cores allowed = %v; the quota of 1.5 is below the cpuset of 3", h.CPU.CoresAllowed)
	}
	if h.CPU.Level != X86V4 || len(h.CPU.Masked) != 0 {
		t.Errorf("level %s, masked %v; want x86-64-v4, none", h.CPU.Level, h.CPU.Masked)
	}
	wantCaches := []Cache{
		{1, "data", 32 << 10, 64, 2}, {1, "instruction", 32 << 10, 64, 2},
		{2, "unified", 1 << 20, 64, 2}, {3, "unified", 33 << 20, 64, 4},
	}
	if !reflect.DeepEqual(h.CPU.Caches, wantCaches) {
		t.Errorf("caches of the first allowed CPU = %+v", h.CPU.Caches)
	}
	wantNodes := []NUMANode{
		{0, []int{0, 1, 4, 5}, 1 << 30, 512 << 20, []int{10, 21}},
		{1, []int{2, 3, 6, 7}, 2 << 30, 0, []int{21, 10}},
	}
	if !reflect.DeepEqual(h.NUMA, wantNodes) || h.NUMAReason != "" {
		t.Errorf("NUMA = %+v, %q", h.NUMA, h.NUMAReason)
	}
	m := h.Memory
	if m.Total != 3<<30 || m.Available != 1<<30 || m.TransparentHugePages != "madvise" || m.Memlock.Bytes != 8<<20 {
		t.Errorf("memory = %+v", m)
	}
	if want := []HugePages{{2 << 20, 64, 60}, {1 << 30, 1, 0}}; !reflect.DeepEqual(m.HugePages, want) {
		t.Errorf("huge pages = %+v", m.HugePages)
	}
	if h.GPUs != nil || h.GPUReason != "no NVIDIA driver is loaded and no NVIDIA GPU is on the PCI bus" {
		t.Errorf("GPUs = %v, %q", h.GPUs, h.GPUReason)
	}
}

func TestCPUSetNarrowerThanQuotaWins(t *testing.T) {
	root := twoSocketFiles()
	root["sys/fs/cgroup/cpu.max"] = &fstest.MapFile{Data: []byte("1600000 100000\n")}
	h := detect(t.Context(), Options{}, fakePlatform(root))
	if h.CPU.CoresAllowed != 3 || h.CPU.Quota.Cores != 16 {
		t.Errorf("cores allowed = %v with %+v; want the cpuset's 3", h.CPU.CoresAllowed, h.CPU.Quota)
	}
}

func TestAbsentThingsCarryReasons(t *testing.T) {
	h := detect(t.Context(), Options{}, fakePlatform(fstest.MapFS{}))
	for what, reason := range map[string]string{
		"NUMA": h.NUMAReason, "GPU": h.GPUReason, "quota": h.CPU.Quota.Reason, "caches": h.CPU.CachesReason,
		"memory": h.Memory.Reason, "cgroup memory": h.Memory.Cgroup.Reason, "glibc": h.GlibcReason, "instance": h.Instance.Reason,
	} {
		if len(strings.Fields(reason)) < 4 {
			t.Errorf("%s has no sentence: %q", what, reason)
		}
	}
	if !reflect.DeepEqual(h.CPU.Caches, cascadeLake().caches) {
		t.Errorf("caches = %+v; want the processor's own", h.CPU.Caches)
	}
	if h.CPU.CoresAllowed != 3 {
		t.Errorf("cores allowed = %v; want the affinity's 3", h.CPU.CoresAllowed)
	}
}

func TestArmModel(t *testing.T) {
	const format = "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: "
	for part, want := range map[string]string{
		"0xd0c": "Arm Neoverse-N1 (Graviton2)", "0xfff": "arm64 implementer 0x41 part 0xfff",
	} {
		if got := armModel(files(map[string]string{"proc/cpuinfo": format + part + "\n"})); got != want {
			t.Errorf("part %s is %q, want %q", part, got, want)
		}
	}
}

func TestThisHost(t *testing.T) {
	h := Detect(t.Context(), Options{NoGPU: true})
	if h.CPU.CoresAllowed <= 0 || h.CPU.Threads < 1 || h.CPU.Level == "" || h.Fingerprint() == "" {
		t.Errorf("impossible host %+v", h.CPU)
	}
	if (h.Glibc == "") == (h.GlibcReason == "") {
		t.Errorf("glibc %q, reason %q: want exactly one", h.Glibc, h.GlibcReason)
	}
}

func FuzzParseCPUList(f *testing.F) {
	for _, s := range []string{"", "0", "0-3,8,10-11", "3-1", "0,0", "65535", "65536", "-", "1-", "a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		cpus, err := ParseCPUs(s)
		if err != nil {
			if cpus != nil {
				t.Fatalf("%q gave both %v and %v", s, cpus, err)
			}
			return
		}
		again, err := ParseCPUs(FormatCPUs(cpus))
		if err != nil || !reflect.DeepEqual(cpus, again) {
			t.Fatalf("%q reads as %v, written and read again %v, %v", s, cpus, again, err)
		}
	})
}
