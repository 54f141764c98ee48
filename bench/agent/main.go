// Command agent measures predictions over agent.sock against an empty grpc-go
// server: the same messages of the same sizes, a handler that returns a ready
// answer. Both are processes of their own on Unix sockets, and the clients take
// turns between them, all at once, so that neither server ever works while the
// other is measured. JSON goes to standard output.
//
// A client makes its next call when the last was answered (a closed loop): a
// server that stalls is asked less while it does, so the 99th percentiles leave out
// most of the waiting that callers with a schedule of their own would see (this is
// known as coordinated omission), and the rows per second are those of so many
// callers and no capacity. What is compared is what the two servers cost the same
// caller. The clients share the cores with the server, as local clients do.
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/report"
	api "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench-agent:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) == 3 && os.Args[1] == "empty-server" {
		return serveEmpty(ctx, os.Args[2])
	}
	dir, err := os.MkdirTemp("", "picket-bench-*")
	if err != nil {
		return fmt.Errorf("making a folder for sockets: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	demo, err := models.Demo(ctx)
	if err != nil {
		return err
	}
	large, err := models.Trained(ctx, 500, 6, 30)
	if err != nil {
		return err
	}

	picketd := filepath.Join(dir, "picketd")
	build := exec.CommandContext(ctx, "go", "build", "-o", picketd, "./cmd/picketd")
	build.Dir, build.Stderr = testkit.ModuleRoot(), os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building picketd: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	emptySocket := filepath.Join(dir, "empty.sock")
	stopEmpty, err := start(ctx, dir, self, "empty-server", emptySocket)
	if err != nil {
		return err
	}
	defer stopEmpty()
	stopDaemon, err := start(ctx, dir, picketd, "--sockets", dir, "--unsigned",
		"--model", demo.Name+"="+demo.Dir, "--model", large.Name+"="+large.Dir)
	if err != nil {
		return err
	}
	defer stopDaemon()

	out := report.New()
	var results []report.Serving
	for _, m := range []models.Model{demo, large} {
		for _, rows := range []int{1, 64} {
			for _, outstanding := range []int{1, 16} {
				serving, err := measure(ctx, m, rows, outstanding, [2]string{emptySocket, filepath.Join(dir, "agent.sock")})
				if err != nil {
					return fmt.Errorf("measuring model %s: %w", m.Name, err)
				}
				results = append(results, serving...)
				name := fmt.Sprintf("p50 over agent.sock to an empty server, %s, %d rows, %d outstanding (empty %.0f us)", m.Name, rows, outstanding, serving[0].P50US)
				ratio := serving[1].P50US / serving[0].P50US
				if m.Name == demo.Name && rows == 1 && outstanding == 1 {
					out.Promise(name, ratio, "ratio", 1.25)
				} else {
					out.Tell(name, ratio, "ratio")
				}
			}
		}
	}
	out.Results = results
	return out.Write()
}

// start runs a program until the returned function is called. Its log goes to a
// file beside the sockets, shown if it ends badly.
func start(ctx context.Context, dir, program string, args ...string) (func(), error) {
	log, err := os.Create(filepath.Join(dir, filepath.Base(program)+".log"))
	if err != nil {
		return nil, fmt.Errorf("making a log: %w", err)
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", filepath.Base(program), err)
	}
	return func() {
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			said, _ := os.ReadFile(log.Name())
			fmt.Fprintf(os.Stderr, "%s: %v\n%s", filepath.Base(program), err, said)
		}
	}, nil
}

// empty answers every Predict with the same score for each row.
type empty struct {
	api.UnimplementedAgentServer
	answers sync.Map // by number of rows
}

// Predict returns a ready answer of the size a real one would have.
func (e *empty) Predict(_ context.Context, r *api.PredictRequest) (*api.PredictResponse, error) {
	rows := r.Tensors[0].TensorMetadata.Shape[0]
	if answer, ok := e.answers.Load(rows); ok {
		return answer.(*api.PredictResponse), nil
	}
	answer := &api.PredictResponse{Tensors: []*api.Tensor{{
		TensorMetadata: &api.TensorMetadata{Name: []byte("output"), DataType: api.DataType_FLOAT32, Shape: []int32{rows, 1}},
		Data:           &api.Tensor_ByteData{ByteData: make([]byte, 4*rows)},
	}}}
	e.answers.Store(rows, answer)
	return answer, nil
}

func serveEmpty(ctx context.Context, socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	server := grpc.NewServer()
	api.RegisterAgentServer(server, &empty{})
	context.AfterFunc(ctx, server.Stop)
	if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

const (
	warmUpCalls = 200  // per client and socket, not counted
	callsEach   = 4000 // per client and socket, at most
	measureTime = 12 * time.Second
	// A server that has ended would be waited for without end.
	patience = time.Minute
)

// client is one caller with a connection of its own to each socket.
type client struct {
	agents [2]api.AgentClient
	random *rand.Rand
	took   [2][]time.Duration
	answer [2]int // size of the last answer as a message
	err    error
}

// calls makes n calls, one after the other, to socket i.
func (c *client) calls(ctx context.Context, m models.Model, data tensor.Tensor, rows, i, n int) {
	for range n {
		first := c.random.IntN(models.TestRows - rows + 1)
		request := &api.PredictRequest{Name: m.Name, Tensors: []*api.Tensor{{
			TensorMetadata: &api.TensorMetadata{Name: []byte("data"), DataType: api.DataType_FLOAT32, Shape: []int32{int32(rows), int32(m.Features)}},
			Data:           &api.Tensor_ByteData{ByteData: data.Rows(first, first+rows).Bytes()},
		}}}
		start := time.Now()
		answer, err := c.agents[i].Predict(ctx, request, grpc.WaitForReady(true))
		took := time.Since(start)
		if err != nil {
			c.err = err
			return
		}
		if got := len(answer.Tensors[0].GetByteData()); got != 4*rows {
			c.err = fmt.Errorf("an answer of %d bytes for %d rows", got, rows)
			return
		}
		c.took[i] = append(c.took[i], took)
		c.answer[i] = proto.Size(answer)
	}
}

// measure has outstanding clients call one socket and then the other, in random
// order, again and again: call by call where there is one, else a few dozen calls
// each before all change over together. The results are in the order of the
// sockets.
func measure(ctx context.Context, m models.Model, rows, outstanding int, sockets [2]string) ([]report.Serving, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	data, err := models.Rows(m.Features)
	if err != nil {
		return nil, err
	}
	defer data.Buffer.Release()

	clients := make([]client, outstanding)
	for n := range clients {
		clients[n].random = rand.New(rand.NewPCG(1, uint64(n)))
		for i, socket := range sockets {
			conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return nil, fmt.Errorf("connecting to %s: %w", socket, err)
			}
			defer conn.Close()
			clients[n].agents[i] = api.NewAgentClient(conn)
		}
	}
	// turn has every client make n calls to socket i and says how long that took.
	turn := func(i, n int) (time.Duration, error) {
		start := time.Now()
		var wg sync.WaitGroup
		for k := range clients {
			wg.Go(func() { clients[k].calls(ctx, m, data, rows, i, n) })
		}
		wg.Wait()
		took := time.Since(start)
		for k := range clients {
			if clients[k].err != nil {
				return 0, clients[k].err
			}
		}
		return took, nil
	}

	for i := range sockets {
		if _, err := turn(i, warmUpCalls); err != nil {
			return nil, err
		}
		for n := range clients {
			clients[n].took[i] = nil
		}
	}
	// An answer of another size would be another message to encode and to send.
	if a := clients[0].answer; a[0] != a[1] {
		return nil, fmt.Errorf("the empty server answers with messages of %d bytes, picketd of %d", a[0], a[1])
	}
	callsATurn := 1
	if outstanding > 1 {
		callsATurn = 40
	}
	random := rand.New(rand.NewPCG(1, 2))
	var busy [2]time.Duration
	deadline := time.Now().Add(measureTime)
	for calls := 0; calls < callsEach && time.Now().Before(deadline); calls += callsATurn {
		for _, i := range random.Perm(len(sockets)) {
			took, err := turn(i, callsATurn)
			if err != nil {
				return nil, err
			}
			busy[i] += took
		}
	}

	var results []report.Serving
	for i, target := range []string{"empty grpc-go server", "picketd"} {
		var all []time.Duration
		for n := range clients {
			all = append(all, clients[n].took[i]...)
		}
		us := func(q float64) float64 { return float64(interleave.Quantile(all, q).Nanoseconds()) / 1e3 }
		results = append(results, report.Serving{
			Target: target, Protocol: "agent", Model: m.Name, Outstanding: outstanding, Rows: rows, P50US: us(0.5), P99US: us(0.99),
			RowsPerS: float64(len(all)*rows) / busy[i].Seconds(),
		})
	}
	return results, nil
}
