package upload

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/picket-ml/picket/internal/capture/residency"
	"github.com/picket-ml/picket/internal/capture/spool"
)

// The environment of a process that is killed: its directory, its store, its life.
const (
	envVictim  = "PICKET_TEST_VICTIM"
	envStore   = "PICKET_TEST_STORE"
	envLife    = "PICKET_TEST_LIFE"
	envRecords = "PICKET_TEST_RECORDS"
	envKills   = "PICKET_TEST_KILLS"
)

// victim captures records, says of each when it is accepted, and uploads, until it is killed, or everything has left and
// it captures nothing more. Each life has another policy and another compression.
func victim(dir string) int {
	life, _ := strconv.Atoi(os.Getenv(envLife))
	records, _ := strconv.Atoi(os.Getenv(envRecords))
	s, err := spool.Open(spool.Options{Dir: dir + "/spool", SegmentBytes: 64 << 10, SegmentAge: 20 * time.Millisecond})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	client := s3.New(s3.Options{
		Region: "us-west-2", BaseEndpoint: aws.String(os.Getenv(envStore)), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	})
	policy, err := residency.New(residency.Options{Version: strconv.Itoa(life), Models: []residency.ModelRule{{
		Model: residency.AnyModel, Samples: true, Otherwise: residency.Allow, Outputs: residency.Allow, IDs: residency.Allow,
	}}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	u := New(Options{
		Source: s, Destination: NewBucket(client, Bucket{Name: "bucket"}), Policy: policy, Audit: residency.NewAudit(dir + "/audit"),
		KindsOf: endpointOnly, Compression: []Compression{None, Gzip, Zstd}[life%3], ObjectBytes: 3000,
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error)
	go func() { done <- u.Run(ctx) }()
	for n := range records {
		number := life*1_000_000 + n
		if err := s.Append(ctx, event([]string{"fraud", "churn"}[n%2], number, time.Now())); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println(number)
	}
	for s.Stats().OnDisk > 0 {
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Killed again and again, between the storing of an object and the deletion of its records too: no two objects have one
// name, and each accepted record is there once. PICKET_TEST_KILLS=1000 for more.
func TestKills(t *testing.T) {
	kills := 25
	if text := os.Getenv(envKills); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	store := newStore()
	server := httptest.NewServer(store)
	defer server.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	accepted := map[string]bool{}
	live := func(life, records int, kill bool) {
		command := exec.Command(self)
		command.Env = append(os.Environ(), envVictim+"="+dir, envStore+"="+server.URL, envLife+"="+strconv.Itoa(life), envRecords+"="+strconv.Itoa(records))
		command.Stderr = os.Stderr
		out, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		store.mu.Lock()
		if store.puts, store.after = 0, nil; kill && life%3 > 0 {
			// After an object is stored, and before the answer.
			at := 1 + rand.N(4)
			store.after = func(puts int) {
				if puts == at {
					_ = command.Process.Kill()
				}
			}
		}
		store.mu.Unlock()
		if kill {
			timer := time.AfterFunc(5*time.Millisecond+rand.N(150*time.Millisecond), func() {
				if life%3 == 0 {
					_ = command.Process.Kill()
				}
			})
			defer timer.Stop()
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			accepted[lines.Text()] = true
		}
		if err := command.Wait(); err != nil && !kill {
			t.Fatalf("the last life: %v", err)
		}
	}
	for life := range kills {
		live(life, 40, true)
	}
	live(kills, 0, false)

	objects, err := store.objects()
	if err != nil {
		t.Error(err)
	}
	ids := idsIn(t, objects)
	for id, n := range ids {
		if n != 1 {
			t.Errorf("record %s is there %d times", id, n)
		}
	}
	for id := range accepted {
		if ids[id] != 1 {
			t.Errorf("record %s was accepted and is there %d times", id, ids[id])
		}
	}
	if len(accepted) < kills {
		t.Errorf("only %d records were accepted in %d lives", len(accepted), kills)
	}
	names := map[string]bool{}
	for key := range objects {
		bare := strings.TrimSuffix(strings.TrimSuffix(key, ".gz"), ".zst")
		if names[bare] {
			t.Errorf("%s is there in two compressions", bare)
		}
		names[bare] = true
	}
	checkAudit(t, dir, objects)
	t.Logf("%d lives, %d records accepted, %d in %d objects", kills+1, len(accepted), len(ids), len(objects))
}
