package oip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picket-ml/picket/engine"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
)

// object makes a shared memory object of the test's own and returns its key.
func object(t *testing.T, name string, data []byte) (key, path string) {
	t.Helper()
	key = fmt.Sprintf("/picket-test-%d-%s", os.Getpid(), name)
	path = "/dev/shm" + key
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
	return key, path
}

func whole(v int64) *oipapi.InferParameter {
	return &oipapi.InferParameter{ParameterChoice: &oipapi.InferParameter_Int64Param{Int64Param: v}}
}

// in places a tensor in a region.
func in(region string, offset, size int64) map[string]*oipapi.InferParameter {
	return map[string]*oipapi.InferParameter{
		"shared_memory_region":    {ParameterChoice: &oipapi.InferParameter_StringParam{StringParam: region}},
		"shared_memory_byte_size": whole(size), "shared_memory_offset": whole(offset),
	}
}

func sharedRequest(region string, offset int64) *oipapi.ModelInferRequest {
	r := request("rows", "data", "FP32", []int64{2, 3}, nil)
	r.RawInputContents = nil
	r.Inputs[0].Parameters = in(region, offset, 24)
	r.Outputs = []*oipapi.ModelInferRequest_InferRequestedOutputTensor{{Name: "data-out"}}
	return r
}

func (f *fixture) register(t *testing.T, name, key string, offset, size uint64) error {
	t.Helper()
	_, err := f.SystemSharedMemoryRegister(t.Context(), &oipapi.SystemSharedMemoryRegisterRequest{Name: name, Key: key, Offset: offset, ByteSize: size})
	return err
}

func TestSharedMemory(t *testing.T) {
	f := start(t, Options{}, standard(), engine.ModelOptions{})
	data := bytes.Repeat([]byte{1, 2, 3, 4}, 16)
	key, path := object(t, "in", data)
	outKey, outPath := object(t, "out", make([]byte, 64))
	if err := errors.Join(f.register(t, "in", key, 8, 48), f.register(t, "out", strings.TrimPrefix(outKey, "/"), 0, 64)); err != nil {
		t.Fatal(err)
	}
	r := sharedRequest("in", 4)
	out, err := f.ModelInfer(t.Context(), r)
	if err != nil || !bytes.Equal(out.GetRawOutputContents()[0], data[12:36]) {
		t.Fatalf("%v, %v", out, err)
	}
	r.Outputs[0].Parameters = in("out", 16, 24)
	if out, err = f.ModelInfer(t.Context(), r); err != nil || len(out.GetRawOutputContents()) != 1 || len(out.GetRawOutputContents()[0]) != 0 {
		t.Fatalf("%v, %v", out, err)
	}
	if got, err := os.ReadFile(outPath); err != nil || !bytes.Equal(got[16:40], data[12:36]) || got[15] != 0 || got[40] != 0 {
		t.Errorf("the output is %v, %v", got, err)
	}

	for says, change := range map[string]func(*oipapi.ModelInferRequest){
		"no shared memory is registered": func(r *oipapi.ModelInferRequest) { r.Inputs[0].Parameters = in("other", 0, 24) },
		"past the end of the region":     func(r *oipapi.ModelInferRequest) { r.Inputs[0].Parameters = in("in", 25, 24) },
		"byte_size is 23":                func(r *oipapi.ModelInferRequest) { r.Inputs[0].Parameters = in("in", 0, 23) },
		"no shared_memory_byte_size":     func(r *oipapi.ModelInferRequest) { delete(r.Inputs[0].Parameters, "shared_memory_byte_size") },
		"byte_size is 8":                 func(r *oipapi.ModelInferRequest) { r.Outputs[0].Parameters = in("out", 0, 8) },
		"0 or more":                      func(r *oipapi.ModelInferRequest) { r.Inputs[0].Parameters["shared_memory_offset"] = whole(-1) },
	} {
		r := sharedRequest("in", 0)
		change(r)
		if _, err := f.ModelInfer(t.Context(), r); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want a sentence with %s", err, says)
		}
	}
	for says, c := range map[string]struct {
		name, key    string
		offset, size uint64
	}{
		"too small":                  {"a", key, 60, 8},
		"shared memory segment":      {"a", key, 1 << 63, 1 << 63},
		"no such shared memory":      {"a", "/picket-test-none", 0, 8},
		"is registered as":           {"in", key, 0, 8},
		"must be above 0":            {"a", key, 0, 0},
		"must have 1 to":             {"", key, 0, 8},
		"no name of a shared memory": {"a", "/../etc/passwd", 0, 8},
	} {
		if err := f.register(t, c.name, c.key, c.offset, c.size); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want a sentence with %s", err, says)
		}
	}

	// A client that shortens its object hurts itself only.
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ModelInfer(t.Context(), sharedRequest("in", 0)); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "too small") {
		t.Errorf("a shortened object: %v", err)
	}
	if _, err := f.SystemSharedMemoryUnregister(t.Context(), &oipapi.SystemSharedMemoryUnregisterRequest{Name: "in"}); err != nil {
		t.Fatal(err)
	}
	if list, err := f.SystemSharedMemoryStatus(t.Context(), &oipapi.SystemSharedMemoryStatusRequest{}); err != nil || len(list.GetRegions()) != 1 || list.GetRegions()["out"].GetByteSize() != 64 {
		t.Errorf("%v, %v", list, err)
	}
	f.checkServing(t)
}

// Another user's memory is not read, nor what is no memory.
func TestSharedMemoryOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: an object of another user is part of the question")
	}
	f := start(t, Options{}, standard(), engine.ModelOptions{})
	key, path := object(t, "foreign", make([]byte, 64))
	if err := os.Chown(path, 54321, 54321); err != nil {
		t.Fatal(err)
	}
	if err := f.register(t, "a", key, 0, 8); err == nil || !strings.Contains(err.Error(), "owned by the calling user") {
		t.Errorf("an object of another user: %v", err)
	}
	link, linkPath := object(t, "link", nil)
	if err := errors.Join(os.Remove(linkPath), os.Symlink("/etc/passwd", linkPath)); err != nil {
		t.Fatal(err)
	}
	if err := f.register(t, "a", link, 0, 8); err == nil {
		t.Error("a link was followed")
	}
	folder, folderPath := object(t, "folder", nil)
	if err := errors.Join(os.Remove(folderPath), os.Mkdir(folderPath, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := f.register(t, "a", folder, 0, 8); err == nil {
		t.Error("a folder was taken for memory")
	}
}

// What a client leaves behind that dies goes with its connection.
func TestSharedMemoryOfTheDead(t *testing.T) {
	f := start(t, Options{}, standard(), engine.ModelOptions{})
	for i := range maxRegions {
		key, path := object(t, fmt.Sprint("dead-", i), make([]byte, 8))
		if err := f.register(t, fmt.Sprint(i), key, 0, 8); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	key, _ := object(t, "more", make([]byte, 8))
	for i := range maxRegions / 2 { // in the places of those that were removed
		if err := f.register(t, fmt.Sprint("more-", i), key, 0, 8); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.register(t, "last", key, 0, 8); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one region too many: %v", err)
	}
	if err := os.Remove(filepath.Join("/dev/shm", key)); err != nil {
		t.Fatal(err)
	}
	f.conn.Close()
	f.http.CloseIdleConnections()
	count := func() (n int) {
		f.server.regions.mu.RLock()
		defer f.server.regions.mu.RUnlock()
		for _, h := range f.server.regions.owners {
			n += len(h.regions)
		}
		return n
	}
	for end := time.Now().Add(10 * time.Second); count() > maxRegions/2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d regions are left of a client that has gone", count())
		}
	}
}

// What nobody waits for any more is not read from shared memory.
func TestSharedMemoryAfterTheDeadline(t *testing.T) {
	f := start(t, Options{}, standard(), engine.ModelOptions{})
	key, path := object(t, "deadline", make([]byte, 24))
	who := owner{known: true, uid: uint32(os.Geteuid())}
	if err := f.server.regions.register(who, "r", key, 0, 24); err != nil {
		t.Fatal(err)
	}
	model, err := f.engine.Acquire("rows")
	if err != nil {
		t.Fatal(err)
	}
	defer model.Release()
	bound := func() *message {
		return &message{
			model:  []byte("rows"),
			inputs: []input{{name: []byte("data"), datatype: []byte("FP32"), shape: dims{dim: [8]int64{2, 3}, rank: 2}, form: shared, place: place{region: []byte("r"), size: 24, sized: true}}},
		}
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	for _, c := range []struct {
		name     string
		ctx      context.Context
		deadline time.Time
		want     error
	}{
		{"in time", t.Context(), time.Now().Add(time.Hour), nil},
		{"too late", t.Context(), time.Now().Add(-time.Microsecond), engine.ErrDeadline},
		{"left", gone, time.Time{}, engine.ErrCanceled},
	} {
		// The time of the last reading tells whether there was one.
		before := time.Now().Add(-48 * time.Hour).Truncate(time.Second)
		if err := os.Chtimes(path, before, before); err != nil {
			t.Fatal(err)
		}
		r, reserved, err := f.server.newRequest(c.ctx, bound(), model, who, c.deadline)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if r != nil {
			r.Release()
			f.server.budget.Give(reserved)
		}
		var info unix.Stat_t
		if err := unix.Stat(path, &info); err != nil {
			t.Fatal(err)
		}
		if read := time.Unix(info.Atim.Unix()).After(before); read != (c.want == nil) {
			t.Errorf("%s: that the memory was read is %t", c.name, read)
		}
	}
}
