package environment

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/internal/hw"
)

func files(pairs ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1] + "\n")}
	}
	return m
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	host := &hw.Host{Kernel: "6.1.0", Instance: hw.Instance{Type: "m5.4xlarge", Family: "m5"}}
	host.CPU.Model, host.Memory.Total = "a processor", 1<<34
	e := Describe(host, files(
		"proc/cpuinfo", "processor : 0\nmicrocode\t: 0x5003901\nflags\t\t: fpu hypervisor sse",
		"proc/sys/kernel/hostname", "bank-7", "sys/devices/system/cpu/smt/active", "1",
		"sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "performance", "sys/devices/system/cpu/cpufreq/policy0/scaling_driver", "intel_pstate",
		"sys/devices/system/cpu/cpufreq/policy1/scaling_governor", "powersave",
		"sys/devices/system/cpu/intel_pstate/no_turbo", "0", "sys/class/dmi/id/sys_vendor", "Amazon EC2",
	))
	if e.CPU.Microcode != "0x5003901" || e.CPU.SMT != "on" || e.CPU.Governor != "mixed" || e.CPU.Driver != "intel_pstate" || e.CPU.Boost != "on" ||
		e.Virtual != "virtual machine, Amazon EC2" || e.Kernel != "6.1.0" || e.Instance.Family != "m5" || e.Memory.TotalBytes != 1<<34 || len(e.Host) != 8 {
		t.Errorf("the host is described as %+v", e)
	}
	if strings.Contains(e.Host, "bank") {
		t.Error("the host is named")
	}
	bare := Describe(host, files())
	if bare.CPU.SMT != "unknown" || bare.CPU.Governor != "none" || bare.CPU.Boost != "unknown" || bare.Virtual != "" || bare.Host == e.Host {
		t.Errorf("a host that tells nothing is described as %+v", bare)
	}
	if e := Describe(host, files("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "performance", "sys/devices/system/cpu/smt/control", "notsupported", "sys/devices/system/cpu/cpufreq/boost", "0")); e.CPU.Governor != "performance" || e.CPU.SMT != "notsupported" || e.CPU.Boost != "off" {
		t.Errorf("the host is described as %+v", e)
	}
}

// TestNoise judges a machine from what its files say.
func TestNoise(t *testing.T) {
	t.Parallel()
	root := files("proc/loadavg", "3.50 1 1 2/3 4", "proc/stat", "cpu 1000 0 1000 8000 0 0 0 0 0 0\ncpu0 1 2 3")
	var own time.Duration
	w := NewWatch(root, 4, func() time.Duration { return own })
	end := w.Span()
	// 1000 ticks of 10 ms later: 50 stolen, 500 busy of which the suite took 200.
	root["proc/stat"] = &fstest.MapFile{Data: []byte("cpu 1400 0 1100 8450 0 0 0 50 0 0\n")}
	own = 2 * time.Second
	s := end()
	if s.All != 10*time.Second || s.Stolen != 500*time.Millisecond || s.Steal() != 0.05 {
		t.Errorf("the time was divided as %+v", s)
	}
	// This process has itself used some time since.
	if s.Others > 3*time.Second || s.Others < 2*time.Second {
		t.Errorf("others took %v, want just under 3 s", s.Others)
	}
	w.loops = []float64{100, 101, 102, 103, 150, 151, 152, 153, 154, 155}
	w.longest = 7 * time.Millisecond
	n := w.Noise()
	if n.Quiet || len(n.Why) != 5 {
		t.Errorf("the noise is %+v", n)
	}
	for i, want := range []string{"5.0% of the processors' time to others", "other processes took", "3.50 on 4", "% apart", "7ms"} {
		if i < len(n.Why) && !strings.Contains(n.Why[i], want) {
			t.Errorf("reason %d is %q, want one with %q", i, n.Why[i], want)
		}
	}

	quiet := NewWatch(files("proc/loadavg", "0.50 1 1 2/3 4", "proc/stat", "cpu 1 0 1 1 0 0 0 0 0 0"), 4, func() time.Duration { return 0 })
	quiet.Span()()
	if n := quiet.Noise(); !n.Quiet || len(n.Why) != 0 {
		t.Errorf("nothing happened, and the noise is %+v", n)
	}
	for _, damaged := range []string{"", "cpu 1 2", "cpu a b c d e f g h i j", "intr 1 2 3 4 5 6 7 8 9"} {
		if _, err := parseStat(damaged); err == nil {
			t.Errorf("%q is read as /proc/stat", damaged)
		}
	}
}

// TestDisturbed judges a repetition by what others had of the processors, on small machines and on large ones.
func TestDisturbed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		steal, others float64
		cpus          int
		want          bool
	}{
		{0, 0, 2, false}, {0.02, 0.1, 2, false}, {0.021, 0, 2, true}, {0, 0.11, 2, true},
		{0, 0.015, 16, false}, {0, 0.02, 16, true}, // a third of one processor
	} {
		if got := Disturbed(c.steal, c.others, c.cpus); got != c.want {
			t.Errorf("steal %v and others %v on %d processors: disturbed is %v", c.steal, c.others, c.cpus, got)
		}
	}
}

// TestFastest takes no moment that hardly ever comes for what a machine can do.
func TestFastest(t *testing.T) {
	t.Parallel()
	w := &Watch{}
	if w.Fastest() != 0 {
		t.Errorf("before the first look the loop took %v", w.Fastest())
	}
	for i := range 10 {
		w.keep(float64(20 - i))
	}
	if w.Fastest() != 11 {
		t.Errorf("of ten looks the fastest took 11, not %v", w.Fastest())
	}
	for range 90 {
		w.keep(15)
	}
	w.keep(5)
	if got := w.Fastest(); got != 15 {
		t.Errorf("of 101 looks, five of which took less than 15, the fastest that counts took %v", got)
	}
}

// TestProbe looks at this machine.
func TestProbe(t *testing.T) {
	t.Parallel()
	usable, err := hw.ThreadCPUs(0)
	if err != nil {
		t.Fatal(err)
	}
	w := NewWatch(os.DirFS("/"), 1, func() time.Duration { return 0 })
	end := w.Span()
	for range 3 {
		if pace, err := w.Probe(usable); err != nil || pace < w.Fastest() || w.Fastest() <= 0 || report.Slowed(w.Fastest(), w.Fastest()) {
			t.Errorf("a loop took %v ns, the fastest %v, %v", pace, w.Fastest(), err)
		}
	}
	end()
	if now, err := hw.ThreadCPUs(0); err != nil || !slices.Equal(now, usable) {
		t.Errorf("after a look at each processor this process may run on %v in the place of %v, %v", now, usable, err)
	}
	if n := w.Noise(); n.LoopMedianNS <= 0 || n.LoopSpread < 0 || n.InterruptedNS <= 0 {
		t.Errorf("the noise is %+v", n)
	}
	if work(10) == work(11) {
		t.Error("more work gives the same")
	}
}
