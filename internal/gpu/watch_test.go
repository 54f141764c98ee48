//go:build linux && cgo

package gpu

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
)

// dgx is go-nvml's mock of a machine with eight GPUs, with what it lacks: answers about health, which the test may change, and events, which
// it sends.
type dgx struct {
	*server.Server
	events chan nvml.EventData
	ended  chan struct{}

	mu   sync.Mutex
	what [8]health
}

// health is what a GPU of the mock answers.
type health struct {
	answer   nvml.Return // of everything
	ecc      uint64
	throttle uint64
	remap    bool
}

func newDGX() *dgx {
	d := &dgx{Server: dgxa100.New(), events: make(chan nvml.EventData), ended: make(chan struct{})}
	d.ErrorStringFunc = nvml.ErrorString
	shutdown := d.ShutdownFunc
	d.ShutdownFunc = func() nvml.Return { close(d.ended); return shutdown() }
	d.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) {
		return &mock.EventSet{
			FreeFunc: func() nvml.Return { return nvml.SUCCESS },
			WaitFunc: func(ms uint32) (nvml.EventData, nvml.Return) {
				select {
				case e := <-d.events:
					return e, nvml.SUCCESS
				case <-time.After(time.Duration(ms) * time.Millisecond / 20):
					return nvml.EventData{}, nvml.ERROR_TIMEOUT
				}
			},
		}, nvml.SUCCESS
	}
	for i := range d.Devices {
		device := d.Devices[i].(*server.Device)
		now := func() health {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.what[i]
		}
		device.GetSupportedEventTypesFunc = func() (uint64, nvml.Return) {
			return nvml.EventTypeXidCriticalError | nvml.EventTypePState, nvml.SUCCESS
		}
		device.RegisterEventsFunc = func(types uint64, _ nvml.EventSet) nvml.Return {
			if types != nvml.EventTypeXidCriticalError {
				return nvml.ERROR_INVALID_ARGUMENT
			}
			return nvml.SUCCESS
		}
		memory := device.GetMemoryInfoFunc
		device.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) {
			if r := now().answer; r != nvml.SUCCESS {
				return nvml.Memory{}, r
			}
			return memory()
		}
		device.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 40 + uint32(i), nvml.SUCCESS }
		device.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 250_000, nvml.SUCCESS }
		device.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{Gpu: 25}, nvml.SUCCESS }
		device.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) { return now().ecc, nvml.SUCCESS }
		device.GetCurrentClocksThrottleReasonsFunc = func() (uint64, nvml.Return) { return now().throttle, nvml.SUCCESS }
		device.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 0, false, now().remap, nvml.SUCCESS }
		device.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
	}
	return d
}

func (d *dgx) change(i int, h health) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.what[i] = h
}

// told is a GPU that the watch has called sick.
type told struct {
	uuid   string
	parts  []string
	reason string
}

// watch starts a watch of d, which ends with the test.
func watch(t *testing.T, d *dgx, log *slog.Logger) (*Watch, <-chan told) {
	t.Helper()
	sick := make(chan told, 8)
	w, err := open(Options{Interval: time.Millisecond, Log: log, Sick: func(uuid string, parts []string, reason string) { sick <- told{uuid, parts, reason} }}, d)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		<-d.ended // NVML was shut down
	})
	return w, sick
}

func uuidOf(d *dgx, i int) string { return d.Devices[i].(*server.Device).UUID }

// until waits for what the watch will find.
func until(t *testing.T, w *Watch, i int, found func(State) bool) State {
	t.Helper()
	for {
		if s := w.States()[i]; found(s) {
			return s
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("GPU %d is %+v", i, w.States()[i])
		case <-time.After(time.Millisecond):
		}
	}
}

func TestWatchTellsWhatItSees(t *testing.T) {
	d := newDGX()
	w, _ := watch(t, d, nil)
	s := until(t, w, 3, func(s State) bool { return !s.Asked.IsZero() })
	if s.UUID != uuidOf(d, 3) || s.Index != 3 || s.Temperature != 43 || s.Power != 250 || s.Load != 0.25 || s.MemoryTotal < 40e9 || s.Sick != "" || len(s.Throttled) != 0 {
		t.Errorf("GPU 3 is %+v", s)
	}
	if len(w.States()) != 8 {
		t.Errorf("%d GPUs are watched", len(w.States()))
	}
}

// TestWhatMakesAGPUSick has one GPU after the other fall ill in each of the ways, is told of each once, and leaves the others in use.
func TestWhatMakesAGPUSick(t *testing.T) {
	d := newDGX()
	part := &mock.Device{GetUUIDFunc: func() (string, nvml.Return) { return "MIG-part", nvml.SUCCESS }}
	cut := d.Devices[0].(*server.Device)
	cut.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 7, nvml.SUCCESS }
	cut.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i != 2 {
			return nil, nvml.ERROR_NOT_FOUND
		}
		return part, nvml.SUCCESS
	}
	d.change(2, health{ecc: 5}) // of old
	w, sick := watch(t, d, nil)
	until(t, w, 7, func(s State) bool { return !s.Asked.IsZero() })
	event := func(i int, kind, data uint64) {
		d.events <- nvml.EventData{Device: d.Devices[i], EventType: kind, EventData: data}
	}
	expect := func(i int, parts []string, want string) {
		t.Helper()
		select {
		case s := <-sick:
			if s.uuid != uuidOf(d, i) || !strings.Contains(s.reason, want) || !slices.Equal(s.parts, parts) {
				t.Errorf("told of %+v, want GPU %d, %q", s, i, want)
			}
		case <-t.Context().Done():
			t.Fatalf("not told that GPU %d is sick: %s", i, want)
		}
	}
	// Its own programs' fault.
	event(0, nvml.EventTypeXidCriticalError, 31)
	event(0, nvml.EventTypeXidCriticalError, 63)
	event(0, nvml.EventTypeXidCriticalError, 79)
	expect(0, []string{"MIG-part"}, "Xid 79, the GPU has fallen off the bus")
	event(0, nvml.EventTypeXidCriticalError, 79) // is not told again
	event(1, nvml.EventTypeDoubleBitEccError, 0)
	expect(1, nil, "double-bit ECC error")
	d.change(2, health{ecc: 7})
	expect(2, nil, "2 errors more that could not be corrected")
	d.change(3, health{remap: true})
	expect(3, nil, "defective row")
	d.change(4, health{answer: nvml.ERROR_GPU_IS_LOST})
	expect(4, nil, "it does not answer")
	d.change(5, health{answer: nvml.ERROR_UNKNOWN})
	expect(5, nil, "it does not answer")
	event(6, nvml.EventTypeXidCriticalError, 999)
	expect(6, nil, "Xid 999")

	states := w.States()
	if x := states[0].Xids; x[31] != 1 || x[63] != 1 || x[79] != 2 {
		t.Errorf("events of GPU 0: %v", x)
	}
	for i, s := range states {
		if (s.Sick == "") != (i == 7) {
			t.Errorf("GPU %d is sick: %q", i, s.Sick)
		}
	}
	select {
	case s := <-sick:
		t.Errorf("told of %+v as well", s)
	default:
	}
}

func TestThrottlingIsLoggedOnce(t *testing.T) {
	var buffer bytes.Buffer
	var mu sync.Mutex
	log := slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return buffer.Write(p)
	}), nil))
	d := newDGX()
	d.change(1, health{throttle: 4 | 64})
	w, sick := watch(t, d, log)
	s := until(t, w, 1, func(s State) bool { return len(s.Throttled) > 0 })
	if !slices.Equal(s.Throttled, []string{"power_cap", "hardware_thermal"}) || s.Sick != "" {
		t.Errorf("GPU 1 is %+v", s)
	}
	first := s.Asked
	until(t, w, 1, func(s State) bool { return s.Asked.Sub(first) > 5*time.Millisecond })
	d.change(1, health{throttle: 4})
	until(t, w, 1, func(s State) bool { return len(s.Throttled) == 1 })
	first = time.Now()
	until(t, w, 1, func(s State) bool { return s.Asked.After(first) })
	mu.Lock()
	defer mu.Unlock()
	if text := buffer.String(); strings.Count(text, "slower than it could") != 1 || strings.Count(text, "full speed again") != 1 {
		t.Errorf("the log is\n%s", text)
	}
	if len(sick) > 0 {
		t.Error("a GPU that is slowed down is called sick")
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestWithoutEvents asks alone where there are no events.
func TestWithoutEvents(t *testing.T) {
	d := newDGX()
	d.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) { return nil, nvml.ERROR_NOT_SUPPORTED }
	w, sick := watch(t, d, nil)
	until(t, w, 0, func(s State) bool { return !s.Asked.IsZero() })
	d.change(0, health{answer: nvml.ERROR_GPU_IS_LOST})
	if s := <-sick; s.uuid != uuidOf(d, 0) {
		t.Errorf("told of %+v", s)
	}
}

func TestOpenSaysWhyNot(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*dgx)
		want  string
	}{
		"NVML does not start": {func(d *dgx) { d.InitFunc = func() nvml.Return { return nvml.ERROR_DRIVER_NOT_LOADED } }, "NVML does not start"},
		"an old driver":       {func(d *dgx) { d.LookupSymbolFunc = func(string) error { return nvml.ERROR_FUNCTION_NOT_FOUND } }, "install driver 470"},
		"no count":            {func(d *dgx) { d.DeviceGetCountFunc = func() (int, nvml.Return) { return 0, nvml.ERROR_UNKNOWN } }, "how many there are"},
		"none opens": {func(d *dgx) {
			d.DeviceGetHandleByIndexFunc = func(int) (nvml.Device, nvml.Return) { return nil, nvml.ERROR_NO_PERMISSION }
		}, "none that could be opened"},
	} {
		d := newDGX()
		c.spoil(d)
		if w, err := open(Options{}, d); w != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %q", name, w, err, c.want)
		}
	}
}
