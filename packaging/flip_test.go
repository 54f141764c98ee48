package packaging

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestEveryBit: whichever bit of a package changes, it is refused.
func TestEveryBit(t *testing.T) {
	o := twoVariants(t)
	write(t, filepath.Join(o.Variants[0].Dir, "zeros.params"), make([]byte, 2000)) // which compress in many ways
	built(t, o)
	f, err := os.Open(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Attach(context.Background(), f, o.Out, true, bytes.Repeat([]byte("signature "), 30)); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	if err := unpack(data, nil); err != nil {
		t.Fatal(err)
	}
	for bit := range len(data) * 8 {
		data[bit/8] ^= 1 << (bit % 8)
		if err := unpack(data, nil); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrNewer) {
			t.Errorf("bit %d of byte %d: %v", bit%8, bit/8, err)
		}
		data[bit/8] ^= 1 << (bit % 8)
	}
	t.Logf("%d bits", len(data)*8)
}

// TestRenameRace: while a package is unpacked, somebody puts links in the place of its folders and of its files, and others
// in the place of what is read. Nothing outside is written, and nothing of it is read into a package.
func TestRenameRace(t *testing.T) {
	a := newArena(t)
	before := snapshot(t, a.outside)
	data, _ := built(t, twoVariants(t))
	source := filepath.Join(filepath.Dir(a.outside), "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unpack(data, openRoot(t, source)), unseal(source)); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(a.outside, "secret")

	const rounds = 10_000 // of putting a link there and taking it away again
	var swaps atomic.Int64
	stop := make(chan struct{})
	var attackers sync.WaitGroup
	attack := func(paths ...string) {
		attackers.Go(func() {
			for {
				for _, path := range paths {
					select {
					case <-stop:
						return
					default:
					}
					target := a.outside
					if filepath.Ext(path) != "" {
						target = secret
					}
					aside := path + "~"
					if os.Rename(path, aside) == nil {
						_ = os.Symlink(target, path)
						_ = os.Remove(path)
						_ = os.Rename(aside, path)
						swaps.Add(1)
					}
				}
				time.Sleep(50 * time.Microsecond) // or nothing else gets the folders' locks
			}
		})
	}
	attack(filepath.Join(a.inside, "variants"), filepath.Join(a.inside, "variants", "x86-64-v4"), filepath.Join(a.inside, "compiled.so"))
	attack(filepath.Join(source, "compiled.so"), filepath.Join(source, "variants"))
	tried, done, read := 0, 0, 0
	for ; swaps.Load() < rounds || done == 0 || read == 0; tried++ {
		if err := os.Mkdir(a.inside, 0o700); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(a.inside)
		if err != nil {
			t.Fatal(err)
		}
		if tried%2 == 0 {
			err = unpack(data, root)
		} else if from, openErr := os.OpenRoot(source); openErr == nil {
			var archive *Archive
			if archive, err = OpenFolder(from); err == nil {
				err = archive.Unpack(context.Background(), root)
				archive.Close()
			}
			from.Close()
			if err == nil {
				read++
			}
		}
		if err == nil {
			done++
		}
		root.Close()
		for os.RemoveAll(a.inside) != nil { // an attacker is putting something back
			time.Sleep(time.Millisecond)
		}
	}
	close(stop)
	attackers.Wait()
	if snapshot(t, a.outside) != before {
		t.Error("something outside was changed")
	}
	t.Logf("%d swaps: %d of %d times the package was unpacked, the others were refused", swaps.Load(), done, tried)
}
