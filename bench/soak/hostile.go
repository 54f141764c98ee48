package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
)

// stranger is a user id that is borrowed; no account needs to have it.
const stranger = 54323

// hostileMemory names memory that is too small, somebody else's, or none, and wants each refused and nothing kept.
func (s *soak) hostileMemory(ctx context.Context, d *daemon) error {
	if _, err := d.settles(ctx, usage{}, time.Second); err != nil {
		return err
	}
	before, err := d.observe(ctx)
	if err != nil {
		return err
	}
	tried := 0
	var taken []string
	for _, try := range []func(context.Context, *daemon) (attempts, error){hostileSegments, hostileObjects} {
		a, err := try(ctx, d)
		if err = errors.Join(err, tidyUp(os.Getpid())); err != nil {
			return err
		}
		for what, err := range a {
			tried++
			// Whatever is wrong with memory is the caller's mistake.
			if status.Code(err) != codes.InvalidArgument {
				taken = append(taken, fmt.Sprintf("%s: %v", what, err))
			}
		}
	}
	s.out.check(len(taken) == 0, "memory that is none is refused", "%d of %d hostile handles were answered otherwise %q", len(taken), tried, taken)
	after, err := d.settles(ctx, before, 10*time.Second)
	if err != nil {
		return err
	}
	s.out.checkReturned(before, after)
	return nil
}

// attempts are what was tried, and how each was answered.
type attempts map[string]error

// hostileSegments tries System V segments over the agent's interface.
func hostileSegments(ctx context.Context, d *daemon) (attempts, error) {
	conn, err := dialGRPC("unix", d.socket("agent"))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := agentapi.NewAgentClient(conn)
	const row = 4 * fraudFeatures
	id, memory, err := segment(10*row, false)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.SysvShmDetach(memory) }() // attached above
	gone, goneMemory, err := segment(10*row, true)
	if err != nil {
		return nil, err
	}
	if err := unix.SysvShmDetach(goneMemory); err != nil {
		return nil, fmt.Errorf("detaching a segment: %w", err)
	}
	handles := map[string]*agentapi.SharedMemoryHandle{
		"an id that is gone":        {SegmentId: uint64(gone), Size: row},
		"an id of 64 bits":          {SegmentId: math.MaxUint64, Size: row},
		"an id and 2^32":            {SegmentId: 1<<32 + uint64(id), Size: row},
		"a size of 2^64-1":          {SegmentId: uint64(id), Size: math.MaxUint64},
		"a size of 2^63":            {SegmentId: uint64(id), Size: 1 << 63},
		"a row more than there is":  {SegmentId: uint64(id), Size: 11 * row},
		"an offset at the end":      {SegmentId: uint64(id), Offset: 10 * row},
		"an offset that overflows":  {SegmentId: uint64(id), Offset: math.MaxUint64 - row + 1, Size: 2 * row},
		"part of a row at the end":  {SegmentId: uint64(id), Offset: 9*row + 1},
		"size and offset overflow":  {SegmentId: uint64(id), Offset: 1 << 63, Size: 1 << 63},
		"an offset of 2^63 no size": {SegmentId: uint64(id), Offset: 1 << 63},
	}
	if os.Geteuid() == 0 {
		other, otherMemory, err := segment(10*row, false)
		if err != nil {
			return nil, err
		}
		defer func() { _ = unix.SysvShmDetach(otherMemory) }() // attached above
		var desc unix.SysvShmDesc
		if _, err := unix.SysvShmCtl(other, unix.IPC_STAT, &desc); err != nil {
			return nil, fmt.Errorf("looking at a segment: %w", err)
		}
		desc.Perm.Uid = stranger
		if _, err := unix.SysvShmCtl(other, unix.IPC_SET, &desc); err != nil {
			return nil, fmt.Errorf("giving a segment away: %w", err)
		}
		handles["another user's"] = &agentapi.SharedMemoryHandle{SegmentId: uint64(other), Size: row}
	}
	a := attempts{}
	for what, h := range handles {
		_, err := client.Predict(ctx, agentRequest(h))
		a["a segment: "+what] = err
	}
	return a, nil
}

// hostileObjects tries POSIX objects over the Open Inference Protocol.
func hostileObjects(ctx context.Context, d *daemon) (_ attempts, err error) {
	conn, err := dialGRPC("unix", d.socket("oip"))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := oipapi.NewGRPCInferenceServiceClient(conn)
	const row = 4 * fraudFeatures
	key := func(name string) string { return "/" + objectPrefix(os.Getpid()) + name }
	path := func(name string) string { return filepath.Join(objectDir, key(name)) }
	_, small, err := object("small", 10*row)
	if err != nil {
		return nil, err
	}
	defer small.Close()
	_, empty, err := object("empty", 0)
	if err != nil {
		return nil, err
	}
	defer empty.Close()
	_, huge, err := object("huge", 1<<40)
	if err != nil {
		return nil, err
	}
	defer huge.Close()
	if err := errors.Join(
		os.Mkdir(path("folder"), 0o700), unix.Mkfifo(path("pipe"), 0o600), os.Symlink("/proc/self/mem", path("memory")),
		os.Symlink("/etc/passwd", path("passwd")), os.Symlink("/dev/zero", path("zero")), unix.Mknod(path("socket"), unix.S_IFSOCK|0o600, 0),
	); err != nil {
		return nil, fmt.Errorf("making things that are no memory: %w", err)
	}
	regions := []struct {
		what, key    string
		offset, size uint64
	}{
		{"a folder", key("folder"), 0, 1}, {"a pipe", key("pipe"), 0, 1}, {"a socket", key("socket"), 0, 1},
		{"a link to /proc/self/mem", key("memory"), 0, 1}, {"a link to a file", key("passwd"), 0, 1}, {"a link to a device", key("zero"), 0, 1},
		{"nothing", key("nothing"), 0, 1}, {"a way out", "/../proc/self/maps", 0, 1}, {"a deeper way", key("folder") + "/x", 0, 1},
		{"the folder itself", "/.", 0, 1}, {"no name", "", 0, 1}, {"a name with a zero", "/a\x00b", 0, 1},
		{"no bytes", key("small"), 0, 0}, {"an empty one", key("empty"), 0, 1}, {"a byte too many", key("small"), 0, 10*row + 1},
		{"an offset at the end", key("small"), 10 * row, 1}, {"an overflow", key("small"), math.MaxUint64, 2},
		{"two halves of 2^64", key("small"), 1 << 63, 1 << 63}, {"a byte above 1 TiB", key("huge"), 0, 1<<40 + 1},
	}
	if os.Geteuid() == 0 {
		_, foreign, err := object("foreign", 10*row)
		if err != nil {
			return nil, err
		}
		defer foreign.Close()
		if err := foreign.Chown(stranger, stranger); err != nil {
			return nil, fmt.Errorf("giving an object away: %w", err)
		}
		regions = append(regions, regions[0])
		last := &regions[len(regions)-1]
		last.what, last.key = "another user's", key("foreign")
	}
	a := attempts{}
	for _, r := range regions {
		_, err := client.SystemSharedMemoryRegister(ctx, &oipapi.SystemSharedMemoryRegisterRequest{Name: "hostile", Key: r.key, Offset: r.offset, ByteSize: r.size})
		a["an object: "+r.what] = err
	}

	// Regions that are in order, and tensors in them that are not.
	for name, size := range map[string]uint64{"small": 10 * row, "huge": 1 << 40} {
		if _, err := client.SystemSharedMemoryRegister(ctx, &oipapi.SystemSharedMemoryRegisterRequest{Name: name, Key: key(name), ByteSize: size}); err != nil {
			return nil, fmt.Errorf("registering an object that is in order: %w", err)
		}
	}
	tensors := []struct {
		what, region string
		rows         int64
		offset, size int64
	}{
		{"no region of the name", "none", 1, 0, row}, {"a row behind the end", "small", 11, 0, 11 * row}, {"an offset at the end", "small", 1, 10 * row, row},
		{"a negative offset", "small", 1, -row, row}, {"a negative size", "small", 1, 0, -row}, {"an overflow", "small", 1, math.MaxInt64, row},
		{"a size of another shape", "small", 2, 0, row}, {"a terabyte", "huge", 1 << 40 / row, 0, 1 << 40 / row * row},
		{"more rows than can be", "huge", math.MaxInt64 / row, 0, math.MaxInt64 / row * row},
	}
	for _, one := range tensors {
		in := inferRequest("fraud", 1, fraudFeatures)
		in.Inputs[0].Shape[0] = one.rows
		in.Inputs[0].Parameters = inRegion(one.region, one.offset, one.size)
		_, err := client.ModelInfer(ctx, in)
		a["a tensor: "+one.what] = err
	}
	// One that shrinks behind the daemon's back is the client's own loss.
	if err := small.Truncate(row - 1); err != nil {
		return nil, fmt.Errorf("shortening an object: %w", err)
	}
	in := inferRequest("fraud", 10, fraudFeatures)
	in.Inputs[0].Parameters = inRegion("small", 0, 10*row)
	_, err = client.ModelInfer(ctx, in)
	a["a tensor: in an object that shrank"] = err
	_, err = client.SystemSharedMemoryUnregister(ctx, &oipapi.SystemSharedMemoryUnregisterRequest{})
	return a, err
}
