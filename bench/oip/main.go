// Command oip measures predictions over oip.sock against an empty grpc-go
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
	"io"
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

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/serving"
	api "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench-oip:", err)
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
	stopEmpty, err := serving.Start(ctx, dir, self, "empty-server", emptySocket)
	if err != nil {
		return err
	}
	defer stopEmpty()
	stopDaemon, err := serving.Start(ctx, dir, picketd, "--sockets", dir, "--unsigned",
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
				measured, err := measure(ctx, m, rows, outstanding, [2]string{emptySocket, filepath.Join(dir, "oip.sock")})
				if err != nil {
					return fmt.Errorf("measuring model %s: %w", m.Name, err)
				}
				results = append(results, measured...)
				name := fmt.Sprintf("rows/s of an empty server to those over oip.sock, %s, %d rows, %d outstanding (empty %.0f/s)", m.Name, rows, outstanding, measured[0].RowsPerS)
				ratio := measured[0].RowsPerS / measured[1].RowsPerS
				if m.Name == large.Name && rows == 1 {
					out.Promise(name, ratio, "ratio", 1/0.85)
				} else {
					out.Tell(name, ratio, "ratio")
				}
			}
		}
	}
	out.Results = results
	return out.Write()
}

// empty answers every ModelInfer with the same score for each row.
type empty struct {
	api.UnimplementedGRPCInferenceServiceServer
	answers sync.Map // by question
}

// question is what an answer of the empty server depends on.
type question struct {
	model string
	rows  int64
}

// ModelInfer returns a ready answer of the size a real one would have.
func (e *empty) ModelInfer(_ context.Context, r *api.ModelInferRequest) (*api.ModelInferResponse, error) {
	rows := r.Inputs[0].Shape[0]
	asked := question{r.ModelName, rows}
	if answer, ok := e.answers.Load(asked); ok {
		return answer.(*api.ModelInferResponse), nil
	}
	answer := &api.ModelInferResponse{
		ModelName: r.ModelName, ModelVersion: r.ModelVersion,
		Outputs:           []*api.ModelInferResponse_InferOutputTensor{{Name: "output", Datatype: "FP32", Shape: []int64{rows, 1}}},
		RawOutputContents: [][]byte{make([]byte, 4*rows)},
	}
	e.answers.Store(asked, answer)
	return answer, nil
}

func serveEmpty(ctx context.Context, socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	server := grpc.NewServer()
	api.RegisterGRPCInferenceServiceServer(server, &empty{})
	context.AfterFunc(ctx, server.Stop)
	if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// callers makes clients of one socket that send random rows of data.
func callers(m models.Model, version string, data tensor.Tensor, rows int, socket string) func() (serving.Call, io.Closer, error) {
	return func() (serving.Call, io.Closer, error) {
		conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, nil, err
		}
		client := api.NewGRPCInferenceServiceClient(conn)
		return func(ctx context.Context, random *rand.Rand) (time.Duration, int, error) {
			first := random.IntN(models.TestRows - rows + 1)
			request := &api.ModelInferRequest{
				ModelName: m.Name, ModelVersion: version,
				Inputs:           []*api.ModelInferRequest_InferInputTensor{{Name: "data", Datatype: "FP32", Shape: []int64{int64(rows), int64(m.Features)}}},
				RawInputContents: [][]byte{data.Rows(first, first+rows).Bytes()},
			}
			start := time.Now()
			answer, err := client.ModelInfer(ctx, request, grpc.WaitForReady(true))
			took := time.Since(start)
			if err != nil {
				return 0, 0, err
			}
			if got := len(answer.GetRawOutputContents()[0]); got != 4*rows {
				return 0, 0, fmt.Errorf("an answer of %d bytes for %d rows", got, rows)
			}
			return took, proto.Size(answer), nil
		}, conn, nil
	}
}

// measure compares the two sockets.
func measure(ctx context.Context, m models.Model, rows, outstanding int, sockets [2]string) ([]report.Serving, error) {
	data, err := models.Rows(m.Features)
	if err != nil {
		return nil, err
	}
	defer data.Buffer.Release()
	version, err := versionOf(ctx, m.Name, sockets[1])
	if err != nil {
		return nil, err
	}
	return serving.Comparison{
		Protocol: "oip", Model: m.Name, Outstanding: outstanding, Rows: rows,
		Targets: [2]serving.Target{
			{Name: "empty grpc-go server", Connect: callers(m, version, data, rows, sockets[0])},
			{Name: "picketd", Connect: callers(m, version, data, rows, sockets[1])},
		},
	}.Measure(ctx)
}

// versionOf is the model's version as the daemon tells it: the empty server answers
// with what it is asked for, and both answers are to be of one size.
func versionOf(ctx context.Context, model, socket string) (string, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", fmt.Errorf("connecting to picketd: %w", err)
	}
	defer conn.Close()
	client := api.NewGRPCInferenceServiceClient(conn)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	metadata, err := client.ModelMetadata(ctx, &api.ModelMetadataRequest{Name: model}, grpc.WaitForReady(true))
	if err != nil {
		return "", fmt.Errorf("asking picketd for the version: %w", err)
	}
	return metadata.GetVersions()[0], nil
}
