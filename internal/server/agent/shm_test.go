package agent

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
)

// taskEnv makes this binary create a segment of the given bytes as another
// user, print its id and end; the parent removes it.
const taskEnv = "PICKET_AGENT_TEST_SEGMENT_BYTES"

// stranger is a user id that the tests borrow; no account needs to have it.
const stranger = 54322

func runTask(size string) {
	n, err := strconv.Atoi(size)
	if err == nil {
		var id int
		if id, err = unix.SysvShmGet(unix.IPC_PRIVATE, n, unix.IPC_CREAT|0o666); err == nil {
			fmt.Print(id)
			return
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// strangersSegment is a segment that everybody may read and another user owns.
func strangersSegment(t *testing.T, size int) uint64 {
	t.Helper()
	// The test binary lies in a folder that only its owner can enter.
	dir, err := os.MkdirTemp("/tmp", "picket-agent-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "child")
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	child := exec.Command(binary)
	child.Dir = "/"
	child.Env = []string{taskEnv + "=" + strconv.Itoa(size)}
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
	out, err := child.Output()
	if err != nil {
		t.Fatalf("starting a child as another user: %v", err)
	}
	id, err := strconv.Atoi(string(out))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	return uint64(id)
}

func ownSegment(t *testing.T, contents []byte) uint64 {
	t.Helper()
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, len(contents), unix.IPC_CREAT|0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	memory, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	copy(memory, contents)
	if err := unix.SysvShmDetach(memory); err != nil {
		t.Fatal(err)
	}
	return uint64(id)
}

func TestSharedMemory(t *testing.T) {
	f := startRowsOf3(t, Options{MaxTensor: 1 << 20})
	contents := pattern(120)
	id := ownSegment(t, contents)
	large := ownSegment(t, make([]byte, 12<<20))
	const ok, no = codes.OK, codes.InvalidArgument
	tests := []struct {
		what   string
		shape  []int32
		handle *agentapi.SharedMemoryHandle
		want   codes.Code
		bytes  []byte
	}{
		{"a size", nil, &agentapi.SharedMemoryHandle{SegmentId: id, Size: 24}, ok, contents[:24]},
		{"a size and an offset", nil, &agentapi.SharedMemoryHandle{SegmentId: id, Size: 24, Offset: 96}, ok, contents[96:]},
		{"no size", nil, &agentapi.SharedMemoryHandle{SegmentId: id}, ok, contents},
		{"no size, open rows", []int32{-1, 3}, &agentapi.SharedMemoryHandle{SegmentId: id}, ok, contents},
		{"no size, all open", []int32{-1, -1}, &agentapi.SharedMemoryHandle{SegmentId: id}, ok, contents},
		{"no size, open rows, an offset", []int32{-1, 3}, &agentapi.SharedMemoryHandle{SegmentId: id, Offset: 96}, ok, contents[96:]},
		{"no size, one row", []int32{1, 3}, &agentapi.SharedMemoryHandle{SegmentId: id}, ok, contents[:12]},
		{"no size, rows and an open dimension", []int32{2, -1}, &agentapi.SharedMemoryHandle{SegmentId: id}, ok, contents[:24]},
		{"no size, rows of the shape", []int32{7, 3}, &agentapi.SharedMemoryHandle{SegmentId: id, Offset: 12}, ok, contents[12:96]},
		{"an unaligned offset", nil, &agentapi.SharedMemoryHandle{SegmentId: id, Size: 12, Offset: 1}, ok, contents[1:13]},

		{"an id that does not exist", nil, &agentapi.SharedMemoryHandle{SegmentId: 1<<31 - 1, Size: 12}, no, nil},
		{"an id above 32 bits", nil, &agentapi.SharedMemoryHandle{SegmentId: 1<<32 + id, Size: 12}, no, nil},
		{"the largest id", nil, &agentapi.SharedMemoryHandle{SegmentId: 1<<64 - 1, Size: 12}, no, nil},
		{"an offset at the end", nil, &agentapi.SharedMemoryHandle{SegmentId: id, Offset: 120}, no, nil},
		{"an offset behind the end", nil, &agentapi.SharedMemoryHandle{SegmentId: id, Offset: 1 << 40}, no, nil},
		{"a size behind the end", nil, &agentapi.SharedMemoryHandle{SegmentId: id, Size: 132}, no, nil},
		{"a size that overflows", nil, &agentapi.SharedMemoryHandle{SegmentId: id, Size: 1<<64 - 12, Offset: 24}, no, nil},
		{"a size above the limit", nil, &agentapi.SharedMemoryHandle{SegmentId: id, Size: 12 << 20}, no, nil},
		{"no size and no whole row", nil, &agentapi.SharedMemoryHandle{SegmentId: id, Offset: 1}, no, nil},
		{"no size and a segment above the limit", nil, &agentapi.SharedMemoryHandle{SegmentId: large}, no, nil},
		{"more rows than there are", []int32{11, 3}, &agentapi.SharedMemoryHandle{SegmentId: id}, no, nil},
		{"two billion rows", []int32{1<<31 - 1, 3}, &agentapi.SharedMemoryHandle{SegmentId: id}, no, nil},
		{"a size of no whole row", nil, &agentapi.SharedMemoryHandle{SegmentId: id, Size: 13}, no, nil},
	}
	if os.Geteuid() == 0 {
		other := strangersSegment(t, 120)
		tests = append(tests, struct {
			what   string
			shape  []int32
			handle *agentapi.SharedMemoryHandle
			want   codes.Code
			bytes  []byte
		}{"a segment of someone else", nil, &agentapi.SharedMemoryHandle{SegmentId: other, Size: 12}, no, nil})
	}
	for _, test := range tests {
		in := &agentapi.Tensor{Data: &agentapi.Tensor_SharedMemoryHandle{SharedMemoryHandle: test.handle}}
		if test.shape != nil {
			in.TensorMetadata = &agentapi.TensorMetadata{Name: []byte("data"), DataType: f32, Shape: test.shape}
		}
		out, err := f.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{in}})
		checkStatus(t, test.what, err, test.want)
		if err == nil && !bytes.Equal(out.GetTensors()[0].GetByteData(), test.bytes) {
			t.Errorf("%s: answered %v, want %v", test.what, out.GetTensors()[0].GetByteData(), test.bytes)
		}
	}
	f.checkServing(t)
}
