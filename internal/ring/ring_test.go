//go:build linux

package ring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair is both sides of a ring.
func pair(t testing.TB, spins *Spins) (daemon, client *Ring) {
	t.Helper()
	daemon, fd, err := New(spins)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if client, err = Map(fd, spins); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(daemon.Unmap(), client.Unmap()); err != nil {
			t.Error(err)
		}
		if err := daemon.Unmap(); err != nil {
			t.Errorf("giving memory back once more: %v", err)
		}
		daemon.Close()
		daemon.SetReadDeadline(time.Now()) // of memory that is gone
	})
	return daemon, client
}

// put puts all of b, waiting for room.
func put(s *Sender, b []byte) error {
	for {
		n, err := s.Put(b)
		if err != nil {
			return err
		}
		if b = b[n:]; len(b) == 0 {
			return nil
		}
		if err := s.WaitForRoom(30 * time.Second); err != nil {
			return err
		}
	}
}

// What is put in pieces of any size is taken in pieces of any size, both ways at
// once, many times around the ring and across the end of 32 bits.
func TestStreams(t *testing.T) {
	for _, processors := range []int{1, runtime.NumCPU() + 1} {
		daemon, client := pair(t, NewSpins(processors))
		for _, d := range []struct {
			s *Sender
			r *Receiver
		}{{&daemon.Out, &client.In}, {&client.Out, &daemon.In}} {
			const start = 1<<32 - 3*Capacity/2
			d.s.at, d.r.at = start, start
			d.s.written.Store(start)
			d.s.read.Store(start)
		}
		sent := make([]byte, 20*Capacity)
		random := rand.New(rand.NewPCG(1, 2))
		for i := 0; i < len(sent); i += 4 {
			binary.LittleEndian.PutUint32(sent[i:], random.Uint32())
		}
		failed := make(chan error, 4)
		send := func(s *Sender, random *rand.Rand) {
			for b := sent; len(b) > 0; {
				n := min(len(b), 1+random.IntN(1+random.IntN(2*Capacity)))
				if err := put(s, b[:n]); err != nil {
					failed <- err
					return
				}
				b = b[n:]
			}
			failed <- nil
		}
		receive := func(r *Receiver, random *rand.Rand) {
			buffer := make([]byte, Capacity)
			for at := 0; at < len(sent); {
				if err := r.Wait(); err != nil {
					failed <- err
					return
				}
				n, err := r.Take(buffer[:1+random.IntN(len(buffer))])
				if err != nil || n == 0 || !bytes.Equal(buffer[:n], sent[at:at+n]) {
					failed <- errors.Join(err, errors.New("other bytes were taken than were put"))
					return
				}
				at += n
			}
			failed <- nil
		}
		go send(&daemon.Out, rand.New(rand.NewPCG(1, 3)))
		go send(&client.Out, rand.New(rand.NewPCG(1, 4)))
		go receive(&daemon.In, rand.New(rand.NewPCG(1, 5)))
		go receive(&client.In, rand.New(rand.NewPCG(1, 6)))
		for range 4 {
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
		}
	}
}

// One message there and one back, again and again: nobody sleeps through a wake.
func TestPingPong(t *testing.T) {
	for _, processors := range []int{1, runtime.NumCPU() + 1} {
		spins := NewSpins(processors)
		daemon, client := pair(t, spins)
		echoed := make(chan error, 1)
		go func() {
			b := make([]byte, 100)
			for {
				if err := daemon.In.Wait(); err != nil {
					echoed <- err
					return
				}
				n, err := daemon.In.Take(b)
				if err := errors.Join(err, put(&daemon.Out, b[:n])); err != nil {
					echoed <- err
					return
				}
			}
		}()
		b := make([]byte, 8)
		for i := range uint64(20_000) {
			binary.LittleEndian.PutUint64(b, i)
			if err := put(&client.Out, b); err != nil {
				t.Fatal(err)
			}
			for got := 0; got < 8; {
				if err := client.In.Wait(); err != nil {
					t.Fatal(err)
				}
				n, err := client.In.Take(b[got:])
				if err != nil {
					t.Fatal(err)
				}
				got += n
			}
			if binary.LittleEndian.Uint64(b) != i {
				t.Fatalf("message %d came back as %d", i, binary.LittleEndian.Uint64(b))
			}
		}
		daemon.Close()
		if err := <-echoed; !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
		if n := spins.now.Load(); n != 0 {
			t.Errorf("%d receivers are counted as looking", n)
		}
	}
}

func TestEnds(t *testing.T) {
	daemon, client := pair(t, nil)
	if err := put(&client.Out, []byte("last words")); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- client.In.Wait() }()
	client.Close()
	if err := <-waited; !errors.Is(err, io.EOF) {
		t.Errorf("who waits for bytes is told %v", err)
	}
	if _, err := client.Out.Put([]byte{1}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("putting after the end: %v", err)
	}
	// The other side's own close comes when it sees the connection end; what was put
	// before is still given.
	daemon.Close()
	b := make([]byte, 20)
	if err := daemon.In.Wait(); err != nil {
		t.Fatal(err)
	}
	if n, err := daemon.In.Take(b); err != nil || string(b[:n]) != "last words" {
		t.Errorf("took %q, %v", b[:n], err)
	}
	if err := daemon.In.Wait(); !errors.Is(err, io.EOF) {
		t.Errorf("then: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	daemon, client := pair(t, nil)
	daemon.SetReadDeadline(time.Unix(1, 0))
	if err := daemon.In.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	daemon.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	if err := daemon.In.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at the deadline: %v", err)
	}
	daemon.SetReadDeadline(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)) // more than can be said
	waited := make(chan error, 1)
	go func() { waited <- daemon.In.Wait() }()
	daemon.SetReadDeadline(time.Now())
	if err := <-waited; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("with a deadline that was set meanwhile: %v", err)
	}
	daemon.SetReadDeadline(time.Time{})
	if err := put(&client.Out, []byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := daemon.In.Wait(); err != nil {
		t.Error(err)
	}
	if err := put(&client.Out, make([]byte, Capacity-1)); err != nil {
		t.Fatal(err)
	}
	if err := client.Out.WaitForRoom(5 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nobody takes anything: %v", err)
	}
	if n, err := client.Out.Put([]byte{1}); n != 0 || err != nil {
		t.Errorf("%d bytes, %v, were put into a full ring", n, err)
	}
}

// Whoever is deceived about a word that it sleeps on sleeps for a second at most.
func TestDeceivedSleeper(t *testing.T) {
	daemon, client := pair(t, nil)
	waited := make(chan error, 1)
	go func() { waited <- daemon.In.Wait() }()
	for client.Out.readerSleeps.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	client.Out.readerSleeps.Store(0) // so that nobody is woken
	if err := put(&client.Out, []byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// What does not look like a ring is not mapped.
func TestMapRefuses(t *testing.T) {
	const size = controlSize + 2*Capacity
	for what, c := range map[string]struct {
		seals int
		size  int64
		head  func(b []byte)
	}{
		"no seals":         {0, size, func(b []byte) {}},
		"no bytes":         {unix.F_SEAL_SHRINK, 0, nil},
		"too many bytes":   {unix.F_SEAL_SHRINK, 1 << 40, nil},
		"another magic":    {unix.F_SEAL_SHRINK, size, func(b []byte) { b[0]++ }},
		"another layout":   {unix.F_SEAL_SHRINK, size, func(b []byte) { b[7]++ }},
		"no capacity":      {unix.F_SEAL_SHRINK, size, func(b []byte) { binary.LittleEndian.PutUint32(b[8:], 0) }},
		"no power of two":  {unix.F_SEAL_SHRINK, controlSize + 2*1000, func(b []byte) { binary.LittleEndian.PutUint32(b[8:], 1000) }},
		"half of the size": {unix.F_SEAL_SHRINK, size, func(b []byte) { binary.LittleEndian.PutUint32(b[8:], Capacity/2) }},
		"twice the size":   {unix.F_SEAL_SHRINK, size, func(b []byte) { binary.LittleEndian.PutUint32(b[8:], 2*Capacity) }},
	} {
		t.Run(what, func(t *testing.T) {
			fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := unix.Ftruncate(fd, c.size); err != nil {
				t.Fatal(err)
			}
			if c.head != nil {
				head := make([]byte, controlSize)
				copy(head, magic)
				binary.LittleEndian.PutUint32(head[capacityAt:], Capacity)
				c.head(head)
				if _, err := unix.Pwrite(fd, head, 0); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, c.seals); err != nil {
				t.Fatal(err)
			}
			if r, err := Map(fd, nil); err == nil {
				t.Error("it was mapped")
				if err := r.Unmap(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if _, err := Map(-1, nil); err == nil {
		t.Error("no descriptor was mapped")
	}
}

// FuzzPositions sets the words that the other side has to anything: what is given is
// never more than the ring holds, and then an error.
func FuzzPositions(f *testing.F) {
	f.Add(uint32(0), uint32(0), uint32(0), uint32(0), uint16(10))
	f.Add(uint32(100), uint32(0), uint32(1), uint32(1), uint16(200))
	f.Add(uint32(Capacity), uint32(1<<32-Capacity), uint32(7), uint32(1<<31), uint16(65535))
	f.Add(uint32(Capacity+1), uint32(1), uint32(0), uint32(1), uint16(0))
	f.Add(uint32(1<<32-1), uint32(1<<31), uint32(1<<32-1), uint32(1<<32-1), uint16(1))
	daemon, _ := pair(f, nil)
	f.Fuzz(func(t *testing.T, written, read, readerSleeps, writerSleeps uint32, n uint16) {
		in, out := &daemon.In, &daemon.Out
		in.written.Store(written)
		out.read.Store(read)
		out.readerSleeps.Store(readerSleeps)
		in.writerSleeps.Store(writerSleeps)
		b := make([]byte, n)
		there := written - in.at
		took, err := in.Take(b)
		switch {
		case there > Capacity && (!errors.Is(err, ErrCorrupt) || took != 0):
			t.Errorf("of %d bytes that are said to be there, %d were taken: %v", there, took, err)
		case there <= Capacity && (err != nil || took != min(int(there), len(b))):
			t.Errorf("of %d bytes %d were taken into %d: %v", there, took, len(b), err)
		}
		used := out.at - read
		wrote, err := out.Put(b)
		switch {
		case used > Capacity && (!errors.Is(err, ErrCorrupt) || wrote != 0):
			t.Errorf("where %d bytes are said to be unread, %d were put: %v", used, wrote, err)
		case used <= Capacity && (err != nil || wrote != min(int(Capacity-used), len(b))):
			t.Errorf("where %d bytes are unread, %d of %d were put: %v", used, wrote, len(b), err)
		}
	})
}
