package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/lane"
)

// victimArgument as the first makes the program a client that is to be killed.
const victimArgument = "victim"

// victimRows is how many rows such a client asks for at once: enough for the daemon to be in the middle of it most of the time.
const victimRows = 4096

const victimBytes = victimRows * fraudFeatures * 4

// victims are the kinds of clients that die. ask connects to the daemon whose sockets are in dir, shares memory if the kind does, and gives what makes one
// request; everything is left behind when the process ends. A new way to share memory is a line here.
var victims = []struct {
	kind string
	ask  func(ctx context.Context, dir string) (func() error, error)
}{
	{"agent", agentVictim},
	{"oip", oipVictim},
	{"lane", laneVictim},
	{"ring", ringVictim},
	{"ring-scribbler", ringScribbler},
}

// beVictim is the whole program of such a client: it asks again and again and never comes to an end, unless its third argument says after how many
// requests.
func beVictim(args []string) int {
	err := func() error {
		if len(args) != 3 {
			return fmt.Errorf("%d arguments", len(args))
		}
		for _, v := range victims {
			if v.kind != args[0] {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // longer than any lives
			defer cancel()
			one, err := v.ask(ctx, args[1])
			if err != nil {
				return err
			}
			for n := 1; ; n++ {
				if err := one(); err != nil {
					return err
				}
				if n == 1 {
					fmt.Print(".")
				}
				if args[2] == fmt.Sprint(n) {
					return tidyUp(os.Getpid())
				}
			}
		}
		return fmt.Errorf("no kind %q", args[0])
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak: a client that is to be killed:", err)
		return 1
	}
	return 0
}

// scribble changes memory that the daemon is reading, until the process ends.
func scribble(memory []byte) {
	for n := 0; ; n++ {
		memory[n*8191%len(memory)] = byte(n)
		if n%1000 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// segment is a System V segment of this process. Every second one is marked to go with its last user, as careful clients do.
func segment(size int, marked bool) (id int, memory []byte, err error) {
	if id, err = unix.SysvShmGet(unix.IPC_PRIVATE, size, unix.IPC_CREAT|0o600); err != nil {
		return 0, nil, fmt.Errorf("making a segment: %w", err)
	}
	if memory, err = unix.SysvShmAttach(id, 0, 0); err != nil {
		return 0, nil, fmt.Errorf("attaching a segment: %w", err)
	}
	if marked {
		if _, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil); err != nil {
			return 0, nil, fmt.Errorf("marking a segment: %w", err)
		}
	}
	return id, memory, nil
}

func agentVictim(ctx context.Context, dir string) (func() error, error) {
	id, memory, err := segment(victimBytes, os.Getpid()%2 == 0)
	if err != nil {
		return nil, err
	}
	go scribble(memory)
	conn, err := dialGRPC("unix", filepath.Join(dir, "agent.sock"))
	if err != nil {
		return nil, err
	}
	client := agentapi.NewAgentClient(conn)
	return func() error {
		_, err := client.Predict(ctx, agentRequest(&agentapi.SharedMemoryHandle{SegmentId: uint64(id)}))
		return err
	}, nil
}

func agentRequest(h *agentapi.SharedMemoryHandle) *agentapi.PredictRequest {
	return &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{{
		TensorMetadata: &agentapi.TensorMetadata{Name: []byte("data"), DataType: agentapi.DataType_FLOAT32, Shape: []int32{-1, fraudFeatures}},
		Data:           &agentapi.Tensor_SharedMemoryHandle{SharedMemoryHandle: h},
	}}}
}

// object makes a POSIX object of this process, in size bytes of zeros.
func object(name string, size int64) (key string, file *os.File, err error) {
	key = "/" + objectPrefix(os.Getpid()) + name
	if file, err = os.OpenFile(filepath.Join(objectDir, key), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return "", nil, fmt.Errorf("making an object: %w", err)
	}
	if err := file.Truncate(size); err != nil {
		return "", nil, fmt.Errorf("making an object of %d bytes: %w", size, err)
	}
	return key, file, nil
}

func oipVictim(ctx context.Context, dir string) (func() error, error) {
	conn, err := dialGRPC("unix", filepath.Join(dir, "oip.sock"))
	if err != nil {
		return nil, err
	}
	client := oipapi.NewGRPCInferenceServiceClient(conn)
	request := inferRequest("fraud", victimRows, fraudFeatures)
	request.Outputs = []*oipapi.ModelInferRequest_InferRequestedOutputTensor{{Name: "output"}}
	for _, o := range []struct {
		name string
		size int64
		to   *map[string]*oipapi.InferParameter
	}{{"in", victimBytes, &request.Inputs[0].Parameters}, {"out", victimRows * 4, &request.Outputs[0].Parameters}} {
		key, file, err := object(o.name, o.size)
		if err != nil {
			return nil, err
		}
		memory, err := unix.Mmap(int(file.Fd()), 0, int(o.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return nil, fmt.Errorf("mapping an object: %w", err)
		}
		go scribble(memory)
		if _, err := client.SystemSharedMemoryRegister(ctx, &oipapi.SystemSharedMemoryRegisterRequest{Name: key, Key: key, ByteSize: uint64(o.size)}); err != nil {
			return nil, err
		}
		*o.to = inRegion(key, 0, o.size)
	}
	return func() error {
		_, err := client.ModelInfer(ctx, request)
		return err
	}, nil
}

// inRegion places a tensor in a region.
func inRegion(region string, offset, size int64) map[string]*oipapi.InferParameter {
	whole := func(v int64) *oipapi.InferParameter {
		return &oipapi.InferParameter{ParameterChoice: &oipapi.InferParameter_Int64Param{Int64Param: v}}
	}
	return map[string]*oipapi.InferParameter{
		"shared_memory_region":    {ParameterChoice: &oipapi.InferParameter_StringParam{StringParam: region}},
		"shared_memory_byte_size": whole(size), "shared_memory_offset": whole(offset),
	}
}

// laneVictim shares no memory: it dies with requests on their way, some of them cut in the middle.
func laneVictim(ctx context.Context, dir string) (func() error, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "lane-stream.sock"))
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(laneGreeting()); err != nil {
		return nil, err
	}
	frames := lanePredict(512)
	buffer := make([]byte, 64<<10)
	cut := len(frames) / 3
	if _, err := conn.Write(frames[:cut]); err != nil {
		return nil, err
	}
	return func() error {
		if _, err := conn.Write(frames[cut:]); err != nil {
			return err
		}
		if _, err := conn.Write(frames[:cut]); err != nil {
			return err
		}
		_, err := conn.Read(buffer)
		return err
	}, nil
}

// ringVictim dies with requests in a ring that the daemon has mapped too.
func ringVictim(ctx context.Context, dir string) (func() error, error) {
	c, err := lane.Dial(ctx, filepath.Join(dir, "lane.sock"), lane.Options{Ring: true})
	if err != nil {
		return nil, err
	}
	if !c.HasRing() {
		return nil, errors.New("the daemon gave no ring")
	}
	m, err := c.Model(ctx, "fraud")
	if err != nil {
		return nil, err
	}
	x := make([]float32, 256*fraudFeatures)
	return func() error {
		_, err := m.PredictFloat32(ctx, x)
		return err
	}, nil
}

// ringScribbler asks for a ring each time, and writes whatever comes into the positions and the bytes of it while the daemon reads.
func ringScribbler(_ context.Context, dir string) (func() error, error) {
	random := rand.New(rand.NewPCG(uint64(os.Getpid()), 3))
	return func() error {
		memory, conn, err := takeRing(filepath.Join(dir, "lane.sock"))
		if err != nil {
			return err
		}
		defer conn.Close()
		const control = 4096 // where the positions are; the bytes begin behind it
		copy(memory[control:], laneGreeting()[len(laneHello()):])
		copy(memory[control+200:], lanePredict(64))
		for range 200 {
			if random.IntN(2) == 0 {
				at := 4 * random.IntN(control/4)
				binary.LittleEndian.PutUint32(memory[at:], []uint32{0, 1, uint32(random.IntN(8192)), 1 << 18, 1<<18 + 1, 1 << 31, math.MaxUint32, random.Uint32()}[random.IntN(8)])
			} else {
				memory[control+random.IntN(8192)] = byte(random.Uint32())
			}
			if random.IntN(20) == 0 {
				time.Sleep(20 * time.Microsecond)
			}
		}
		return unix.Munmap(memory)
	}, nil
}

// takeRing connects to the lane and maps the ring that the daemon hands over.
func takeRing(socket string) (memory []byte, conn *net.UnixConn, err error) {
	if conn, err = net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"}); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	hello := lanewire.Hello{Lowest: lanewire.Version, Highest: lanewire.Version, Features: lanewire.FeatureRing}
	if _, err := conn.Write(laneFrame(lanewire.Header{Kind: lanewire.KindHello}, hello.Append(nil))); err != nil {
		return nil, nil, err
	}
	said, rights := make([]byte, lanewire.MaxMessage), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(said, rights)
	if err != nil {
		return nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return nil, nil, fmt.Errorf("the daemon handed over %d times, %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, nil, fmt.Errorf("the daemon handed over %d descriptors, %w", len(fds), err)
	}
	defer unix.Close(fds[0])
	var about unix.Stat_t
	if err := unix.Fstat(fds[0], &about); err != nil {
		return nil, nil, err
	}
	if unix.Ftruncate(fds[0], 0) == nil {
		return nil, nil, errors.New("the memory of a ring can be made shorter, which would end the daemon")
	}
	memory, err = unix.Mmap(fds[0], 0, int(about.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return memory, conn, err
}
