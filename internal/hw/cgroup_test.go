package hw

import (
	"strings"
	"testing"
	"testing/fstest"
)

// files builds a root from paths and contents.
func files(content map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range content {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

const (
	mountV2     = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	mountHybrid = "30 29 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" +
		"31 29 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
		"32 29 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)

func TestControlGroupLimits(t *testing.T) {
	const gib = 1 << 30
	tests := []struct {
		name   string
		root   map[string]string
		cores  float64
		group  string
		reason string // part of Quota.Reason
		memory Limit  // Reason: a part of it
	}{
		{
			name:   "no control groups",
			root:   map[string]string{},
			reason: "/proc/self/cgroup cannot be read",
			memory: Limit{Reason: "/proc/self/cgroup cannot be read"},
		},
		{
			name:   "v2 not mounted",
			root:   map[string]string{"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"},
			reason: "not mounted",
			memory: Limit{Reason: "not mounted"},
		},
		{
			name: "v2 unlimited service",
			root: map[string]string{
				"proc/self/cgroup": "0::/system.slice/picketd.service\n", "proc/self/mountinfo": mountV2,
				"sys/fs/cgroup/system.slice/picketd.service/cpu.max":    "max 100000\n",
				"sys/fs/cgroup/system.slice/picketd.service/memory.max": "max\n",
				"sys/fs/cgroup/system.slice/cpu.max":                    "max 100000\n",
			},
			reason: "no CPU quota is set",
			memory: Limit{Unlimited: true},
		},
		{
			name: "v2 nested, the parent is tighter",
			root: map[string]string{
				"proc/self/cgroup": "0::/kubepods.slice/pod1/c1\n", "proc/self/mountinfo": mountV2,
				"sys/fs/cgroup/kubepods.slice/pod1/c1/cpu.max":    "400000 100000\n",
				"sys/fs/cgroup/kubepods.slice/pod1/cpu.max":       "150000 100000\n",
				"sys/fs/cgroup/kubepods.slice/cpu.max":            "max 100000\n",
				"sys/fs/cgroup/kubepods.slice/pod1/c1/memory.max": "8589934592\n",
				"sys/fs/cgroup/kubepods.slice/memory.max":         "4294967296\n",
			},
			cores: 1.5, group: "/kubepods.slice/pod1", memory: Limit{Bytes: 4 * gib},
		},
		{
			name: "v2 container with its own cgroup namespace",
			root: map[string]string{
				"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": mountV2,
				"sys/fs/cgroup/cpu.max": "50000 100000\n", "sys/fs/cgroup/memory.max": "1073741824\n",
			},
			cores: 0.5, group: "/", memory: Limit{Bytes: gib},
		},
		{
			name: "v2 container that sees the host's path",
			root: map[string]string{
				"proc/self/cgroup":      "0::/docker/abc\n",
				"proc/self/mountinfo":   "29 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup ro\n",
				"sys/fs/cgroup/cpu.max": "200000 100000\n", "sys/fs/cgroup/memory.max": "1073741824\n",
			},
			cores: 2, group: "/", memory: Limit{Bytes: gib},
		},
		{
			name: "v2 group outside the namespace",
			root: map[string]string{
				"proc/self/cgroup": "0::/../other\n", "proc/self/mountinfo": mountV2,
				"sys/fs/cgroup/cpu.max": "300000 100000\n", "sys/fs/cgroup/memory.max": "max\n",
			},
			cores: 3, group: "/", memory: Limit{Unlimited: true},
		},
		{
			name: "hybrid, limits in v1",
			root: map[string]string{
				"proc/self/cgroup":                                "5:memory:/a\n4:cpu,cpuacct:/a/b\n0::/\n",
				"proc/self/mountinfo":                             mountHybrid,
				"sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us":  "-1\n",
				"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us":    "250000\n",
				"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us":   "100000\n",
				"sys/fs/cgroup/memory/a/memory.limit_in_bytes":    "2147483648\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes":      "9223372036854771712\n",
				"sys/fs/cgroup/unified/cpu.max":                   "100000 100000\n",
				"sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n",
			},
			cores: 2.5, group: "/a", memory: Limit{Bytes: 2 * gib},
		},
		{
			name: "a limit holds whatever the group above says",
			root: map[string]string{
				"proc/self/cgroup": "0::/a/x\n", "proc/self/mountinfo": mountV2,
				"sys/fs/cgroup/a/x/cpu.max": "200000 100000\n", "sys/fs/cgroup/a/x/memory.max": "1073741824\n",
				"sys/fs/cgroup/a/cpu.max": "0 100000\n", "sys/fs/cgroup/a/memory.max": "lots\n",
			},
			cores: 2, group: "/a/x", memory: Limit{Bytes: gib},
		},
		{
			name: "damaged files widen nothing and are named",
			root: map[string]string{
				"proc/self/cgroup": "0::/x\n", "proc/self/mountinfo": mountV2,
				"sys/fs/cgroup/x/cpu.max": "0 100000\n", "sys/fs/cgroup/x/memory.max": "lots\n",
			},
			reason: "no share of time",
			memory: Limit{Unlimited: true, Reason: "memory.max holds no number of bytes"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := files(tt.root)
			q := cpuQuota(root)
			if q.Cores != tt.cores || q.Group != tt.group || !strings.Contains(q.Reason, tt.reason) {
				t.Errorf("quota = %+v; want %v cores of group %q, reason with %q", q, tt.cores, tt.group, tt.reason)
			}
			if tt.reason == "" && q.Reason != "" {
				t.Errorf("reason %q beside a quota", q.Reason)
			}
			m := memoryLimit(root)
			if m.Bytes != tt.memory.Bytes || m.Unlimited != tt.memory.Unlimited ||
				!strings.Contains(m.Reason, tt.memory.Reason) || (m.Reason == "") != (tt.memory.Reason == "") {
				t.Errorf("memory limit = %+v; want %+v", m, tt.memory)
			}
		})
	}
}

func FuzzCPUQuota(f *testing.F) {
	f.Add("0::/a/b\n", mountV2, "150000 100000\n")
	f.Add("4:cpu,cpuacct:/a\n0::/\n", mountHybrid, "-1")
	f.Add("0::/../..\n", "29 23 0:26 /x /sys/fs/cgroup rw - cgroup2 c rw", "max 1")
	f.Fuzz(func(t *testing.T, group, mounts, limit string) {
		q := cpuQuota(files(map[string]string{
			"proc/self/cgroup": group, "proc/self/mountinfo": mounts,
			"sys/fs/cgroup/cpu.max": limit, "sys/fs/cgroup/a/cpu.max": limit,
		}))
		if q.Cores < 0 || q.Cores == 0 && (q.Reason == "" || q.Group != "") || q.Cores > 0 && q.Group == "" {
			t.Fatalf("contradictory quota %+v", q)
		}
	})
}
