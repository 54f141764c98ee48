package shm

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func accept(t *testing.T, dial func(path string)) Peer {
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
	defer conn.Close()
	peer, err := PeerCred(conn.(*net.UnixConn))
	if err != nil {
		t.Fatal(err)
	}
	return peer
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
