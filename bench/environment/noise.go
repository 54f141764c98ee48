package environment

import (
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/stats"
	"github.com/picket-ml/picket/internal/hw"
)

// From when on a machine is too noisy for its figures to be compared with others.
const (
	mostSteal       = 0.01
	mostOthers      = 0.05
	mostSpread      = 0.05
	mostLoad        = 0.25 // of the logical processors, before the suite
	mostInterrupted = 5 * time.Millisecond
)

// What is tried between repetitions.
const (
	loopSteps  = 4_000
	loops      = 63
	watching   = 5 * time.Millisecond
	mostProbed = 8 // processors
)

// rarely is in what part of the looks a processor may be faster than what counts as its fastest: for a moment one is clocked as it is never again,
// beside which all else would seem slow.
const rarely = 0.05

// clockTick is in what Linux counts the time of processors (USER_HZ).
const clockTick = 10 * time.Millisecond

// Watch looks at what else the machine does while a suite runs. One goroutine uses it.
type Watch struct {
	root fs.FS
	// Own tells how much processor time the suite has taken so far, with all that it has started.
	own func() time.Duration

	loadBefore float64
	cpus       int
	loops      []float64 // nanoseconds
	paces      []float64 // the medians of probes, ascending
	sink       uint64    // what the loops came to, so that they cannot be left out
	longest    time.Duration
	total      Share // of all spans
}

// NewWatch begins to watch. root holds proc; own tells how much processor time the suite has taken so far, with what it has
// started and not waited for; the process's own time is added.
func NewWatch(root fs.FS, cpus int, own func() time.Duration) *Watch {
	return &Watch{root: root, own: own, loadBefore: loadAverage(root), cpus: cpus}
}

// Share is how the processors' time of a span was divided, in time of one processor.
type Share struct{ All, Stolen, Others time.Duration }

// Steal is the share that a hypervisor gave to others.
func (s Share) Steal() float64 { return part(s.Stolen, s.All) }

// Other is the share that processes took which are not the suite's.
func (s Share) Other() float64 { return part(s.Others, s.All) }

// What others may have of the processors during one repetition. The kernel counts in ticks, of which a repetition has a hundred and
// less on a small machine, so that the share of others is known to within some hundredths; on a large one they are to have no more
// than a part of one processor, as they may be on any.
const (
	mostStealOnce  = 0.02
	mostOthersOnce = 0.1
	mostOfOne      = 0.25
)

// Disturbed reports whether a repetition is not to be taken for one on a quiet machine, from the shares that a hypervisor and other
// processes took of so many processors meanwhile.
func Disturbed(steal, others float64, cpus int) bool {
	return steal > mostStealOnce || others > min(mostOthersOnce, mostOfOne/float64(max(1, cpus)))
}

func part(a, of time.Duration) float64 {
	if of <= 0 {
		return 0
	}
	return a.Seconds() / of.Seconds()
}

// mark is what was counted at a moment.
type mark struct{ all, stolen, busy, own time.Duration }

func (w *Watch) mark() mark {
	text, err := fs.ReadFile(w.root, "proc/stat")
	if err != nil {
		return mark{}
	}
	m, _ := parseStat(string(text)) // zero where it cannot be read
	var self unix.Rusage
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		if unix.Getrusage(who, &self) == nil {
			m.own += time.Duration(self.Utime.Nano() + self.Stime.Nano())
		}
	}
	m.own += w.own()
	return m
}

// parseStat reads the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, in ticks. Guests' time is
// in user and nice already.
func parseStat(text string) (mark, error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return mark{}, fmt.Errorf("/proc/stat begins with %.100q", line)
	}
	var m mark
	for i, field := range fields[1:9] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return mark{}, fmt.Errorf("/proc/stat begins with %.100q: %w", line, err)
		}
		d := time.Duration(ticks) * clockTick
		m.all += d
		switch i {
		case 3, 4: // idle, and idle with a disk to wait for
		case 7:
			m.stolen = d
		default:
			m.busy += d
		}
	}
	return m, nil
}

// Span begins a span of time; the function ends it and tells how the processors' time was divided.
func (w *Watch) Span() func() Share {
	before := w.mark()
	return func() Share {
		after := w.mark()
		s := Share{
			All: after.all - before.all, Stolen: after.stolen - before.stolen,
			Others: max(0, after.busy-before.busy-(after.own-before.own)),
		}
		w.total.All += s.All
		w.total.Stolen += s.Stolen
		w.total.Others += s.Others
		return s
	}
}

// Probe takes some milliseconds to see how evenly this machine works just now, and gives how many nanoseconds a loop of fixed work took, the
// median of some, on that of the processors on which it took the longest, of the first few. Nothing of the suite runs meanwhile.
func (w *Watch) Probe(processors []int) (float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pace := 0.0
	for _, cpu := range processors[:min(len(processors), mostProbed)] {
		at, err := w.paceOn(cpu)
		if err != nil {
			return 0, err
		}
		pace = max(pace, at)
	}
	start := time.Now()
	last := time.Duration(0)
	for last < watching {
		now := time.Since(start)
		w.longest = max(w.longest, now-last)
		last = now
	}
	return pace, nil
}

// paceOn is the median of some times that the loop takes on one processor, where the calling thread, which is locked, is kept meanwhile.
func (w *Watch) paceOn(cpu int) (float64, error) {
	restore, err := hw.BindThread([]int{cpu})
	if err != nil {
		return 0, err
	}
	took := make([]float64, loops)
	for i := range took {
		start := time.Now()
		w.sink += work(loopSteps)
		took[i] = float64(time.Since(start).Nanoseconds())
	}
	w.loops = append(w.loops, took...)
	at := stats.Median(took)
	w.keep(at)
	return at, restore()
}

// keep keeps the median of a probe.
func (w *Watch) keep(at float64) {
	i, _ := slices.BinarySearch(w.paces, at)
	w.paces = slices.Insert(w.paces, i, at)
}

// Fastest is what the loop takes when a processor is as fast as it can be expected to be, as the median of a probe; 0 before the first.
func (w *Watch) Fastest() float64 {
	if len(w.paces) == 0 {
		return 0
	}
	return w.paces[int(rarely*float64(len(w.paces)-1))]
}

// work is four generators of random numbers side by side, as many operations as a core has places for: it takes as long whatever the memory does, and
// longer when something else has a share of the core, which a single chain of operations would not notice.
func work(steps int) uint64 {
	a, b, c, d := uint64(1), uint64(2), uint64(3), uint64(4)
	for range steps {
		a ^= a << 13
		b ^= b << 13
		c ^= c << 13
		d ^= d << 13
		a ^= a >> 7
		b ^= b >> 7
		c ^= c >> 7
		d ^= d >> 7
		a ^= a << 17
		b ^= b << 17
		c ^= c << 17
		d ^= d << 17
	}
	return a ^ b ^ c ^ d
}

// Noise is the judgement on all spans and probes so far.
func (w *Watch) Noise() report.Noise {
	n := report.Noise{
		Steal: w.total.Steal(), Others: w.total.Other(), LoadBefore: w.loadBefore, InterruptedNS: int64(w.longest), Why: []string{},
	}
	if len(w.loops) > 0 {
		n.LoopMedianNS, n.LoopFastestNS = stats.Median(w.loops), w.Fastest()
		n.LoopSpread = (stats.Quantile(w.loops, 0.9) - stats.Quantile(w.loops, 0.1)) / n.LoopMedianNS
	}
	say := func(format string, values ...any) { n.Why = append(n.Why, fmt.Sprintf(format, values...)) }
	if n.Steal > mostSteal {
		say("the hypervisor gave %.1f%% of the processors' time to others", 100*n.Steal)
	}
	if n.Others > mostOthers {
		say("other processes took %.1f%% of the processors' time", 100*n.Others)
	}
	if n.LoadBefore > mostLoad*float64(w.cpus) {
		say("the load average was %.2f on %d processors before the suite began", n.LoadBefore, w.cpus)
	}
	if n.LoopSpread > mostSpread {
		say("a loop of fixed work took times that are %.1f%% apart, from the 10th to the 90th percentile", 100*n.LoopSpread)
	}
	if w.longest > mostInterrupted {
		say("a thread that did nothing but read the clock was away from the processor for %v", w.longest.Round(10*time.Microsecond))
	}
	n.Quiet = len(n.Why) == 0
	return n
}
