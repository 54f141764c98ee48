package hw

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
)

// controlGroup is where one controller (cpu, memory) keeps the limits of this
// process, in cgroup v2 or v1.
type controlGroup struct {
	v2    bool
	mount string // mount point of the hierarchy, without leading slash
	group string // path below the mount point, "." for its top
}

// findControlGroup locates the group of this process for controller. The two
// files it reads describe the process as the kernel sees it from inside its
// own namespaces, so containers with and without a private cgroup namespace
// come out right.
func findControlGroup(root fs.FS, controller string) (controlGroup, error) {
	member, v2, err := membership(root, controller)
	if err != nil {
		return controlGroup{}, err
	}
	mounts, err := readFile(root, "proc/self/mountinfo")
	if err != nil {
		return controlGroup{}, errors.New("/proc/self/mountinfo cannot be read")
	}
	for line := range bytes.Lines(mounts) {
		m, ok := parseMount(string(line))
		if !ok || m.v2 != v2 || !v2 && !slices.Contains(m.options, controller) {
			continue
		}
		return controlGroup{v2: v2, mount: strings.Trim(m.point, "/"), group: below(m.root, member)}, nil
	}
	return controlGroup{}, fmt.Errorf("the %s control groups are not mounted here", controller)
}

// membership returns the path of this process's group in the hierarchy that
// controller is attached to. In a hybrid set-up the v1 hierarchy has it.
func membership(root fs.FS, controller string) (group string, v2 bool, err error) {
	text, err := readFile(root, "proc/self/cgroup")
	if err != nil {
		return "", false, errors.New("this process is in no control group: /proc/self/cgroup cannot be read")
	}
	for line := range bytes.Lines(text) {
		parts := strings.SplitN(strings.TrimRight(string(line), "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if slices.Contains(strings.Split(parts[1], ","), controller) {
			return parts[2], false, nil
		}
		if parts[0] == "0" && parts[1] == "" {
			group, v2 = parts[2], true
		}
	}
	if !v2 {
		return "", false, fmt.Errorf("this process is in no control group of the %s controller", controller)
	}
	return group, true, nil
}

type cgroupMount struct {
	v2      bool
	root    string   // which group of the hierarchy is visible at point
	point   string   // mount point
	options []string // v1: the controllers among others
}

// parseMount reads one line of mountinfo; false unless it mounts cgroups.
func parseMount(line string) (cgroupMount, bool) {
	head, tail, ok := strings.Cut(line, " - ")
	if !ok {
		return cgroupMount{}, false
	}
	left, right := strings.Fields(head), strings.Fields(tail)
	if len(left) < 5 || len(right) < 3 || right[0] != "cgroup" && right[0] != "cgroup2" {
		return cgroupMount{}, false
	}
	// The kernel writes blanks and backslashes of paths in octal.
	plain := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	return cgroupMount{
		v2:      right[0] == "cgroup2",
		root:    plain.Replace(left[3]),
		point:   plain.Replace(left[4]),
		options: strings.Split(right[2], ","),
	}, true
}

// below returns member as seen from a mount that shows the hierarchy from
// top. A member outside it, which namespaces make possible, is answered with
// the mount's own top: the limits there are still above the process.
func below(top, member string) string {
	if top != "/" {
		rest, ok := strings.CutPrefix(member, top)
		if !ok || rest != "" && rest[0] != '/' {
			return "."
		}
		member = rest
	}
	member = strings.Trim(member, "/")
	if member == "" || !fs.ValidPath(member) {
		return "."
	}
	return member
}

// walk calls visit with the directory and the name of each group from the
// process's own up to the top: a limit on any of them binds.
func (g controlGroup) walk(visit func(dir, name string)) {
	for group := g.group; ; group = path.Dir(group) {
		visit(path.Join(g.mount, group), path.Join("/", group))
		if group == "." {
			return
		}
	}
}

// cpuQuota returns the smallest CPU quota above this process.
func cpuQuota(root fs.FS) Quota {
	g, err := findControlGroup(root, "cpu")
	if err != nil {
		return Quota{Reason: "no CPU quota is known: " + err.Error()}
	}
	var q Quota
	read := readQuotaV1
	if g.v2 {
		read = readQuotaV2
	}
	g.walk(func(dir, name string) {
		cores, err := read(root, dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// The top of a hierarchy has no limit file, nor has a group the
			// controller is not enabled for.
		case err != nil:
			q.Reason = err.Error()
		case cores > 0 && (q.Cores == 0 || cores < q.Cores):
			q.Cores, q.Group = cores, name
		}
	})
	switch {
	case q.Cores > 0:
		// It binds, whatever could not be read of the other groups.
		q.Reason = ""
	case q.Reason == "":
		q.Reason = "no CPU quota is set"
	}
	return q
}

// readQuotaV2 reads cpu.max: "max 100000" or "150000 100000", both in µs.
// 0 is no limit.
func readQuotaV2(root fs.FS, dir string) (float64, error) {
	name := dir + "/cpu.max"
	line, err := readLine(root, name)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(line)
	if len(fields) != 2 {
		return 0, fmt.Errorf("/%s holds %q, not a quota and a period", name, line)
	}
	if fields[0] == "max" {
		return 0, nil
	}
	return quotaOf(name, fields[0], fields[1])
}

// readQuotaV1 reads cpu.cfs_quota_us, which is -1 for no limit.
func readQuotaV1(root fs.FS, dir string) (float64, error) {
	name := dir + "/cpu.cfs_quota_us"
	quota, err := readLine(root, name)
	if err != nil {
		return 0, err
	}
	if quota == "-1" {
		return 0, nil
	}
	period, err := readLine(root, dir+"/cpu.cfs_period_us")
	if err != nil {
		return 0, err
	}
	return quotaOf(name, quota, period)
}

func quotaOf(name, quota, period string) (float64, error) {
	q, errQ := strconv.ParseUint(quota, 10, 63)
	p, errP := strconv.ParseUint(period, 10, 63)
	if errQ != nil || errP != nil || q == 0 || p == 0 {
		return 0, fmt.Errorf("/%s gives quota %q of period %q, which is no share of time", name, quota, period)
	}
	return float64(q) / float64(p), nil
}

// memoryLimit returns the smallest memory limit above this process.
func memoryLimit(root fs.FS) Limit {
	g, err := findControlGroup(root, "memory")
	if err != nil {
		return Limit{Reason: "no memory limit is known: " + err.Error()}
	}
	file := "memory.limit_in_bytes"
	if g.v2 {
		file = "memory.max"
	}
	limit := Limit{Unlimited: true}
	g.walk(func(dir, _ string) {
		name := dir + "/" + file
		line, err := readLine(root, name)
		if errors.Is(err, fs.ErrNotExist) || line == "max" {
			return
		}
		n, parseErr := strconv.ParseUint(line, 10, 64)
		if err != nil || parseErr != nil {
			limit.Reason = fmt.Sprintf("/%s holds no number of bytes", name)
			return
		}
		// v1 has no word for "none"; it shows the largest page-aligned int64.
		if n > math.MaxInt64/2 {
			return
		}
		if limit.Unlimited || n < limit.Bytes {
			limit.Unlimited, limit.Bytes = false, n
		}
	})
	if !limit.Unlimited {
		// It binds, whatever could not be read of the other groups.
		limit.Reason = ""
	}
	return limit
}
