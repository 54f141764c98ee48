package spool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// envKills is how many times TestRandomKill kills; a few seconds of them by default.
	envKills = "PICKET_TEST_KILLS"
	// envVictim has the directory of a process that is to be killed.
	envVictim = "PICKET_TEST_SPOOL_VICTIM"
)

// victim appends until it is killed, and says what it was told: "a N" when N records are
// accepted, "u N" before the records up to N are acknowledged, and "v N" after.
func victim(dir string) {
	s, err := Open(Options{Dir: dir, SegmentBytes: 64 << 10})
	if err != nil {
		fmt.Println("!", err)
		os.Exit(1)
	}
	fmt.Println("o", s.Stats().Accepted)
	for n := s.Stats().Accepted; ; n++ {
		e := sample(int(n))
		e.Inputs[0].Data = make([]byte, 100+n%700)
		if err := s.Append(context.Background(), e); err != nil {
			fmt.Println("!", err)
			os.Exit(1)
		}
		fmt.Println("a", n+1)
		if all := s.Segments(); n%97 == 0 && len(all) > 1 {
			last := all[len(all)/2]
			through := int64(last.First) - 1 + last.Records
			fmt.Println("u", through)
			if err := s.Acknowledge(last.Number, Outcome{}); err != nil {
				fmt.Println("!", err)
				os.Exit(1)
			}
			fmt.Println("v", through)
		}
	}
}

// A process that appends and acknowledges is killed at random moments: nothing that it
// was told is lost, and the accounts add up.
func TestRandomKill(t *testing.T) {
	kills := 60
	if text := os.Getenv(envKills); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", envKills, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "spool")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var accepted, leaving, left, torn int64
	for range kills {
		c := exec.Command(self)
		c.Env = append(os.Environ(), envVictim+"="+dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		opened := make(chan struct{})
		done := make(chan string, 1)
		go func() {
			bad, first := "", true
			for lines.Scan() {
				what, text, _ := strings.Cut(lines.Text(), " ")
				n, err := strconv.ParseInt(text, 10, 64)
				if err != nil {
					bad = lines.Text() // a line may be cut off, but not its first word
					if what == "!" {
						break
					}
					bad = ""
				}
				switch what {
				case "o":
					if n < accepted {
						bad = fmt.Sprintf("%d records were accepted, and %d are left", accepted, n)
					}
					if first {
						close(opened)
						first = false
					}
				case "a":
					accepted = n
				case "u":
					leaving = n
				case "v":
					left = n
				}
			}
			if first {
				close(opened)
			}
			done <- bad
		}()
		<-opened
		time.Sleep(5*time.Millisecond + rand.N(60*time.Millisecond))
		_ = c.Process.Kill()
		bad := <-done
		_ = c.Wait() // it was killed
		if bad != "" {
			t.Fatal(bad)
		}
		s, err := Open(Options{Dir: dir, ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		records := s.readAll(func(err error) {
			if !errors.Is(err, ErrDamaged) {
				t.Error(err)
			}
		})
		st := s.Stats()
		st.adds(t)
		torn += st.DamagedRanges
		if st.Quarantined != 0 || st.Accepted < accepted || st.Uploaded < left || st.Uploaded > leaving || int64(len(records)) != st.OnDisk {
			t.Fatalf("%d were accepted and %d to %d have left; %d records; %+v", accepted, left, leaving, len(records), st)
		}
		for i, r := range records {
			if n := st.Uploaded + int64(i); r.ID.Sequence != uint64(n+1) || r.Inference != fmt.Sprintf("s%d", n) {
				t.Fatalf("record %d is %s with number %d", n, r.Inference, r.ID.Sequence)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d records, %d torn batches", kills, accepted, torn)
}
