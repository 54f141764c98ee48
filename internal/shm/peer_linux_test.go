package shm

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func accept(t *testing.T, dial func(path string)) Peer {
	t.Helper()
	conn := accepted(t, dial)
	defer conn.Close()
	peer, err := PeerCred(conn)
	if err != nil {
		t.Fatal(err)
	}
	return peer
}

// accepted is the connection that dial makes, which the caller closes.
func accepted(t *testing.T, dial func(path string)) *net.UnixConn {
	t.Helper()
	// Not t.TempDir: another uid must be able to search the directory.
	dir, err := os.MkdirTemp("", "peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	dial(path)
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*net.UnixConn)
}

func TestPeerCredOfThisProcess(t *testing.T) {
	peer := accept(t, func(path string) {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	})
	if peer != self() {
		t.Errorf("peer %+v, want %+v", peer, self())
	}
}

// However many groups a process has, all are told.
func TestPeerGroups(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a process with other groups is the question")
	}
	for _, n := range []int{0, 1, 32, 33, 1000} {
		want := make([]uint32, n)
		for i := range want {
			want[i] = uint32(70000 + i)
		}
		conn := accepted(t, func(path string) { asStrangerOf(t, want, taskDial, path) })
		got, err := PeerGroups(conn)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%d groups: %v, %v", n, got, err)
		}
		if peer, err := PeerCred(conn); err != nil || peer.UID != stranger {
			t.Errorf("%+v, %v", peer, err)
		}
		conn.Close()
		if _, err := PeerGroups(conn); err == nil {
			t.Error("a connection that is closed has groups")
		}
	}
}

func TestPeerCredOfAnotherUser(t *testing.T) {
	peer := accept(t, func(path string) { asStranger(t, taskDial, path) })
	if peer.UID != stranger || peer.GID != stranger || peer.PID == int32(os.Getpid()) {
		t.Errorf("peer %+v, want uid and gid %d of another process", peer, stranger)
	}
}

func TestPeerCredWithoutAPeer(t *testing.T) {
	if _, err := PeerCred(nil); err == nil {
		t.Error("no error without a connection")
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if peer, err := PeerCred(conn); err == nil {
		t.Errorf("an unconnected socket has the peer %+v", peer)
	}
	conn.Close()
	if _, err := PeerCred(conn); err == nil {
		t.Error("no error on a closed connection")
	}
}
