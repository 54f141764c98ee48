//go:build linux && cgo

package gpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Watch is an opened NVML and what it has said.
type Watch struct {
	o       Options
	lib     nvml.Interface
	events  nvml.EventSet // nil where there are none
	devices []*device

	mu     sync.Mutex
	states []State // of devices
}

// device is a GPU that is asked. The goroutine that watches owns it.
type device struct {
	nvml.Device
	mig    bool   // NVML can say what parts there are, and which rows were remapped
	failed int    // how often it did not answer, in a row
	asked  bool   // at least once
	slow   string // what it is slowed down by, as far as that was logged
}

// symbols are the functions called below: one that is missing would end the process at the call, so all are looked up first.
var symbols = []string{
	"nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlDeviceGetMemoryInfo",
	"nvmlDeviceGetTemperature", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTotalEccErrors",
	"nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlEventSetCreate", "nvmlEventSetWait_v2", "nvmlEventSetFree", "nvmlDeviceRegisterEvents",
	"nvmlDeviceGetSupportedEventTypes",
}

// Of these a driver may have none: they came with MIG.
var migSymbols = []string{"nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex", "nvmlDeviceGetRemappedRows"}

// maxDevices bounds what a broken driver may claim, maxParts what it may of one GPU.
const (
	maxDevices = 64
	maxParts   = 64
)

// Open starts NVML and finds the GPUs. Run must be called next, and closes what it opened.
func Open(o Options) (*Watch, error) { return open(o, nvml.New()) }

func open(o Options, lib nvml.Interface) (*Watch, error) {
	if o.Interval <= 0 {
		o.Interval = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Sick == nil {
		o.Sick = func(string, []string, string) {}
	}
	if ret := lib.Init(); ret != nvml.SUCCESS {
		return nil, fmt.Errorf("watching GPUs: NVML does not start: %s", describe(lib, ret))
	}
	w := &Watch{o: o, lib: lib}
	if err := w.find(); err != nil {
		_ = lib.Shutdown() // there is nobody who could do more about it
		return nil, fmt.Errorf("watching GPUs: %w", err)
	}
	return w, nil
}

func (w *Watch) find() error {
	has := func(names []string) error {
		for _, name := range names {
			if err := w.lib.Extensions().LookupSymbol(name); err != nil {
				return fmt.Errorf("the NVIDIA driver's NVML has no %s", name)
			}
		}
		return nil
	}
	if err := has(symbols); err != nil {
		return fmt.Errorf("%w; install driver 470 or newer", err)
	}
	mig := has(migSymbols) == nil
	count, ret := w.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return fmt.Errorf("NVML does not say how many there are: %s", describe(w.lib, ret))
	}
	for i := range min(count, maxDevices) {
		handle, ret := w.lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			w.o.Log.Warn("a GPU is not watched: it cannot be opened", "gpu", i, "reason", describe(w.lib, ret))
			continue
		}
		uuid, ret := handle.GetUUID()
		if ret != nvml.SUCCESS {
			w.o.Log.Warn("a GPU is not watched: it does not tell its UUID", "gpu", i, "reason", describe(w.lib, ret))
			continue
		}
		name, _ := handle.GetName() // for people
		w.devices = append(w.devices, &device{Device: handle, mig: mig})
		w.states = append(w.states, State{Index: i, UUID: uuid, Name: name, Xids: map[uint64]uint64{}})
	}
	if len(w.devices) == 0 {
		return errors.New("there is none that could be opened")
	}
	w.listen()
	return nil
}

// listen registers for the events of every device. Where that is not possible, asking them has to do.
func (w *Watch) listen() {
	set, ret := w.lib.EventSetCreate()
	if ret != nvml.SUCCESS {
		w.o.Log.Warn("GPUs are watched without events, by asking them only", "reason", describe(w.lib, ret))
		return
	}
	registered := 0
	for i, d := range w.devices {
		types, ret := d.GetSupportedEventTypes()
		types &= nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError
		if ret == nvml.SUCCESS && types != 0 {
			ret = d.RegisterEvents(types, set)
		}
		if ret != nvml.SUCCESS || types == 0 {
			w.o.Log.Warn("a GPU is watched without events, by asking it only", "gpu", w.states[i].UUID, "reason", describe(w.lib, ret))
			continue
		}
		registered++
	}
	if registered == 0 {
		_ = set.Free() // nothing is registered with it
		return
	}
	w.events = set
}

// waitTime is how long an event is waited for at a time, and so how long the end of the watch may take.
const waitTime = 200 * time.Millisecond

// Run watches until ctx ends, and then lets go of NVML. It is called once.
func (w *Watch) Run(ctx context.Context) {
	defer func() {
		if w.events != nil {
			_ = w.events.Free()
		}
		_ = w.lib.Shutdown() // that a driver does not shut down is none of the caller's business
	}()
	var next time.Time
	for ctx.Err() == nil {
		if now := time.Now(); !now.Before(next) {
			w.ask(now)
			next = now.Add(w.o.Interval)
		}
		w.await(ctx)
	}
}

// await waits a moment for an event.
func (w *Watch) await(ctx context.Context) {
	if w.events != nil {
		data, ret := w.events.Wait(uint32(waitTime.Milliseconds()))
		switch ret {
		case nvml.SUCCESS:
			w.happened(data)
			return
		case nvml.ERROR_TIMEOUT:
			return
		}
		// ERROR_GPU_IS_LOST among others: asking tells whose.
		w.ask(time.Now())
	}
	select {
	case <-ctx.Done():
	case <-time.After(waitTime):
	}
}

// happened notes an event of a device.
func (w *Watch) happened(data nvml.EventData) {
	uuid, ret := data.Device.GetUUID()
	if ret != nvml.SUCCESS {
		w.o.Log.Error("a GPU that does not tell which it is has reported an event", "type", data.EventType, "data", data.EventData, "reason", describe(w.lib, ret))
		return
	}
	for i := range w.states {
		if w.states[i].UUID != uuid {
			continue
		}
		reason := "it has reported a double-bit ECC error"
		fatal := true
		if data.EventType == nvml.EventTypeXidCriticalError {
			reason, fatal = "it has reported "+xidText(data.EventData), xidIsFatal(data.EventData)
			w.mu.Lock()
			w.states[i].Xids[data.EventData]++
			w.mu.Unlock()
		}
		if fatal {
			w.sick(i, reason)
			return
		}
		w.o.Log.Warn("a GPU has reported what need not be its own fault: it stays in use", "gpu", uuid, "reason", reason)
	}
}

// sick says that a device is, the first time.
func (w *Watch) sick(i int, reason string) {
	w.mu.Lock()
	s := &w.states[i]
	was := s.Sick
	s.Sick = cmp.Or(was, reason)
	uuid, parts := s.UUID, s.clone().Parts
	w.mu.Unlock()
	if was != "" {
		return
	}
	w.o.Log.Error("a GPU is sick: it is not to be used any more", "gpu", uuid, "reason", reason)
	w.o.Sick(uuid, parts, reason)
}

// unanswered is how often in a row a device may fail to answer before it is taken for sick.
const unanswered = 3

// ask asks every device.
func (w *Watch) ask(now time.Time) {
	for i, d := range w.devices {
		w.mu.Lock()
		before := w.states[i].clone()
		w.mu.Unlock()
		s, ret := d.sample(before)
		if ret != nvml.SUCCESS {
			d.failed++
			if ret == nvml.ERROR_GPU_IS_LOST || d.failed >= unanswered {
				w.sick(i, "it does not answer: "+describe(w.lib, ret))
			}
			continue
		}
		d.failed = 0
		s.Asked = now
		w.mu.Lock()
		s.Sick, s.Xids = w.states[i].Sick, w.states[i].Xids
		w.states[i] = s
		w.mu.Unlock()
		if d.asked && s.Uncorrected > before.Uncorrected {
			w.sick(i, fmt.Sprintf("its memory has had %d errors more that could not be corrected", s.Uncorrected-before.Uncorrected))
		}
		d.asked = true
		if failure := d.remapFailed(); failure {
			w.sick(i, "a defective row of its memory could not be replaced")
		}
		if slow := hardware(s.Throttled); slow != d.slow {
			d.slow = slow
			if slow != "" {
				w.o.Log.Warn("a GPU runs slower than it could", "gpu", s.UUID, "reason", slow, "temperature", s.Temperature)
			} else {
				w.o.Log.Info("a GPU runs at full speed again", "gpu", s.UUID)
			}
		}
	}
}

// sample asks for everything; what the device does not know stays zero. The error is that of a device that does not answer at all.
func (d *device) sample(s State) (State, nvml.Return) {
	memory, ret := d.GetMemoryInfo()
	if ret != nvml.SUCCESS {
		return s, ret
	}
	s.MemoryUsed, s.MemoryTotal = memory.Used, memory.Total
	lost := nvml.SUCCESS
	ok := func(ret nvml.Return) bool {
		if ret == nvml.ERROR_GPU_IS_LOST {
			lost = ret
		}
		return ret == nvml.SUCCESS
	}
	if t, ret := d.GetTemperature(nvml.TEMPERATURE_GPU); ok(ret) {
		s.Temperature = float64(t)
	}
	if p, ret := d.GetPowerUsage(); ok(ret) {
		s.Power = float64(p) / 1000
	}
	if u, ret := d.GetUtilizationRates(); ok(ret) { // not of MIG
		s.Load = float64(u.Gpu) / 100
	}
	if n, ret := d.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC); ok(ret) { // not without ECC
		s.Uncorrected = n
	}
	if bits, ret := d.GetCurrentClocksThrottleReasons(); ok(ret) {
		s.Throttled = throttledBy(bits)
	}
	s.Parts = d.parts()
	return s, lost
}

// parts are the UUIDs of the MIG instances.
func (d *device) parts() (uuids []string) {
	if !d.mig {
		return nil
	}
	count, ret := d.GetMaxMigDeviceCount()
	if ret != nvml.SUCCESS {
		return nil // no MIG
	}
	for i := range min(count, maxParts) {
		part, ret := d.GetMigDeviceHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue // that place is empty
		}
		if uuid, ret := part.GetUUID(); ret == nvml.SUCCESS {
			uuids = append(uuids, uuid)
		}
	}
	return uuids
}

func (d *device) remapFailed() bool {
	if !d.mig {
		return false
	}
	_, _, _, failure, ret := d.GetRemappedRows()
	return ret == nvml.SUCCESS && failure
}

// States are those of all GPUs that are watched.
func (w *Watch) States() []State {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]State, len(w.states))
	for i, s := range w.states {
		all[i] = s.clone()
	}
	return all
}

func describe(lib nvml.Interface, ret nvml.Return) string {
	if text := lib.ErrorString(ret); text != "" {
		return strings.ToLower(text)
	}
	return fmt.Sprintf("NVML return code %d", int(ret))
}
