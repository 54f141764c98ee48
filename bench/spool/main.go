// Command spool measures how fast small records become durable: in the capture spool, in
// hashicorp/raft-wal, and in the file store of an embedded NATS server, which take turns.
// It is a module of its own, so that those two are no part of Picket.
//
//	go run . -o ../results/spool.json
//
// The spool and raft-wal sync once for each batch and acknowledge after that. NATS
// acknowledges before, and syncs at the interval of -sync: it has no way to sync once for
// many messages and acknowledge then.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/spool"
	"github.com/picket-ml/picket/tensor"
)

func main() {
	records := flag.Int("records", 200_000, "how many records each writes in a turn")
	batch := flag.Int("batch", 1000, "how many are made durable together")
	size := flag.Int("size", 200, "bytes of a record")
	turns := flag.Int("turns", 5, "how many turns each has")
	interval := flag.Duration("sync", 10*time.Millisecond, "how often NATS syncs")
	dir := flag.String("dir", "", "where the files go; default the temporary directory")
	out := flag.String("o", "", "the file for the results; default standard output")
	flag.Parse()
	if err := run(*records, *batch, *size, *turns, *interval, *dir, *out); err != nil {
		fmt.Fprintln(os.Stderr, "spool:", err)
		os.Exit(1)
	}
}

// store is one that is measured.
type store interface {
	write(n int) error // one batch, made durable
	close() error
}

// Result is what one came to, the median of its turns.
type Result struct {
	Store            string  `json:"store"`
	RecordsPerSecond float64 `json:"records_per_s"`
	CPUNSPerRecord   float64 `json:"cpu_ns_per_record"`
}

func run(records, batch, size, turns int, interval time.Duration, dir, out string) error {
	makers := []struct {
		name string
		make func(dir string) (store, error)
	}{
		{"picket", func(dir string) (store, error) { return newPicket(dir, size) }},
		{"raft-wal", func(dir string) (store, error) { return newWAL(dir, size) }},
		{"nats", func(dir string) (store, error) { return newNATS(dir, size, interval) }},
	}
	rate, cpu := map[string][]float64{}, map[string][]float64{}
	for turn := range turns + 1 { // the first warms up
		for _, m := range makers {
			at, err := os.MkdirTemp(dir, "spool-bench-")
			if err != nil {
				return err
			}
			s, err := m.make(at)
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			begun, busy := time.Now(), processorTime()
			for n := 0; n < records; n += batch {
				if err := s.write(min(batch, records-n)); err != nil {
					return fmt.Errorf("%s: %w", m.name, err)
				}
			}
			took, used := time.Since(begun), processorTime()-busy
			if err := s.close(); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			if err := os.RemoveAll(at); err != nil {
				return err
			}
			if turn > 0 {
				rate[m.name] = append(rate[m.name], float64(records)/took.Seconds())
				cpu[m.name] = append(cpu[m.name], float64(used.Nanoseconds())/float64(records))
			}
		}
	}
	doc := struct {
		Host    map[string]any `json:"host"`
		Results []Result       `json:"results"`
	}{Host: map[string]any{"cpu": cpuName(), "cores": runtime.NumCPU(), "records": records, "batch": batch, "bytes": size, "turns": turns, "nats_sync": interval.String()}}
	for _, m := range makers {
		doc.Results = append(doc.Results, Result{m.name, median(rate[m.name]), median(cpu[m.name])})
	}
	for _, r := range doc.Results {
		fmt.Printf("%-10s %10.0f records/s  %6.0f ns of processor time a record\n", r.Store, r.RecordsPerSecond, r.CPUNSPerRecord)
	}
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil || out == "" {
		return err
	}
	return os.WriteFile(out, append(b, '\n'), 0o644)
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// processorTime is what the process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func cpuName() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	_, rest, _ := strings.Cut(string(b), "model name")
	name, _, _ := strings.Cut(strings.TrimLeft(rest, "\t :"), "\n")
	return name
}

// picketStore is the capture spool.
type picketStore struct {
	s       *spool.Spool
	entries []*capture.Entry
}

func newPicket(dir string, size int) (store, error) {
	s, err := spool.Open(spool.Options{Dir: filepath.Join(dir, "spool"), MaxBytes: 16 << 30})
	if err != nil {
		return nil, err
	}
	e := capture.Single(&capture.Record{
		Time: time.Now(), Model: "fraud", Kind: capture.Sample, Why: capture.ByRate, Rows: 1,
		Inputs: []capture.Tensor{{Name: "data", DType: tensor.Uint8, Shape: []int64{1, 1}}},
	})
	b, err := e.Append(nil)
	if err != nil {
		return nil, err
	}
	e.Inputs[0].Data = make([]byte, max(0, size-len(b)))
	return &picketStore{s, []*capture.Entry{e}}, nil
}

func (p *picketStore) write(n int) error {
	for len(p.entries) < n {
		p.entries = append(p.entries, p.entries[0])
	}
	return p.s.Append(context.Background(), p.entries[:n]...)
}

func (p *picketStore) close() error { return p.s.Close() }

// walStore is raft-wal.
type walStore struct {
	w    *wal.WAL
	next uint64
	logs []*raft.Log
	data []byte
}

func newWAL(dir string, size int) (store, error) {
	w, err := wal.Open(dir)
	if err != nil {
		return nil, err
	}
	return &walStore{w: w, next: 1, data: make([]byte, size)}, nil
}

func (s *walStore) write(n int) error {
	s.logs = s.logs[:0]
	for range n {
		s.logs = append(s.logs, &raft.Log{Index: s.next, Data: s.data})
		s.next++
	}
	return s.w.StoreLogs(s.logs)
}

func (s *walStore) close() error { return s.w.Close() }

// natsStore is a stream in files of an embedded server, without a network between.
type natsStore struct {
	s    *server.Server
	c    *nats.Conn
	js   jetstream.JetStream
	data []byte
}

func newNATS(dir string, size int, interval time.Duration) (store, error) {
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: dir, SyncInterval: interval, NoSigs: true, NoLog: true})
	if err != nil {
		return nil, err
	}
	go s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return nil, fmt.Errorf("the server is not ready")
	}
	c, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(c, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		return nil, err
	}
	if _, err := js.CreateStream(context.Background(), jetstream.StreamConfig{Name: "records", Subjects: []string{"records"}, Storage: jetstream.FileStorage}); err != nil {
		return nil, err
	}
	return &natsStore{s, c, js, make([]byte, size)}, nil
}

func (s *natsStore) write(n int) error {
	for range n {
		if _, err := s.js.PublishAsync("records", s.data); err != nil {
			return err
		}
	}
	select {
	case <-s.js.PublishAsyncComplete():
		return nil
	case <-time.After(time.Minute):
		return fmt.Errorf("the server does not acknowledge")
	}
}

func (s *natsStore) close() error {
	s.c.Close()
	s.s.Shutdown()
	s.s.WaitForShutdown()
	return nil
}
