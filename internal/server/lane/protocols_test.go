package lane

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/server/agent"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/server/oip"
	client "github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

// protocol is a way to ask for the sum of one row.
type protocol struct {
	name string
	ask  func(ctx context.Context, x float32) (float32, error)
	// leave, where it is not nil, ends a client's connection without a word; else its
	// context is cancelled.
	leave func()
}

// everyProtocol serves f's engine on the sockets of all protocols, and gives a client
// of each with a connection of its own. They ask for the model of that name.
func everyProtocol(t *testing.T, f *fixture, model string) []protocol {
	t.Helper()
	dir := t.TempDir()
	listen := func(name string) *net.UnixListener {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	agents, err := agent.New(agent.Options{Engine: f.engine})
	if err != nil {
		t.Fatal(err)
	}
	open, err := oip.New(oip.Options{Engine: f.engine})
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	agentListener, openListener := listen("agent.sock"), listen("oip.sock")
	served.Go(func() {
		if err := agents.Serve(agentListener, local.Access{}); err != nil {
			t.Error(err)
		}
	})
	served.Go(func() {
		if err := open.Serve(openListener, oip.Access{}); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		agents.Stop()
		open.Stop()
		served.Wait()
	})
	dial := func(name string) *grpc.ClientConn {
		c, err := grpc.NewClient("unix://"+filepath.Join(dir, name), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	row := func(x float32) []byte { return tensor.AsBytes(rowsFrom(1, x)) }
	sum := func(b []byte, err error) (float32, error) {
		if err != nil {
			return 0, err
		}
		if len(b) != 4 {
			return 0, fmt.Errorf("the answer has %d bytes", len(b))
		}
		return math.Float32frombits(binary.LittleEndian.Uint32(b)), nil
	}
	infer := func(x float32) *oipapi.ModelInferRequest {
		return &oipapi.ModelInferRequest{
			ModelName:        model,
			Inputs:           []*oipapi.ModelInferRequest_InferInputTensor{{Name: "data", Datatype: "FP32", Shape: []int64{1, enginetest.Columns}}},
			RawInputContents: [][]byte{row(x)},
		}
	}
	overLane := func(way string) (*client.Client, func(context.Context, float32) (float32, error)) {
		c := f.dial(t, way)
		m, err := c.Model(t.Context(), model)
		if err != nil {
			t.Fatal(err)
		}
		return c, func(ctx context.Context, x float32) (float32, error) {
			y, err := m.PredictFloat32(ctx, rowsFrom(1, x))
			if err != nil {
				return 0, err
			}
			return y[0], nil
		}
	}
	_, askLane := overLane("unixpacket")
	closing, askClosing := overLane("unix")
	_, askRing := overLane(overRing)
	closingRing, askClosingRing := overLane(overRing)
	agentConn, agentLeaving, openConn, streamConn := dial("agent.sock"), dial("agent.sock"), dial("oip.sock"), dial("oip.sock")
	askAgent := func(c *grpc.ClientConn) func(context.Context, float32) (float32, error) {
		return func(ctx context.Context, x float32) (float32, error) {
			out, err := agentapi.NewAgentClient(c).Predict(ctx, &agentapi.PredictRequest{
				Name: model, Tensors: []*agentapi.Tensor{{Data: &agentapi.Tensor_ByteData{ByteData: row(x)}}},
			})
			if err != nil {
				return 0, err
			}
			return sum(out.GetTensors()[0].GetByteData(), nil)
		}
	}
	web := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "oip.sock"))
	}}}
	t.Cleanup(web.CloseIdleConnections)
	return []protocol{
		{"lane, cancelled", askLane, nil},
		{"lane, closed", askClosing, func() { closing.Close() }},
		{"ring, cancelled", askRing, nil},
		{"ring, closed", askClosingRing, func() { closingRing.Close() }},
		{"agent, cancelled", askAgent(agentConn), nil},
		{"agent, closed", askAgent(agentLeaving), func() { agentLeaving.Close() }},
		{"OIP gRPC", func(ctx context.Context, x float32) (float32, error) {
			out, err := oipapi.NewGRPCInferenceServiceClient(openConn).ModelInfer(ctx, infer(x))
			if err != nil {
				return 0, err
			}
			return sum(out.GetRawOutputContents()[0], nil)
		}, nil},
		{"OIP stream", func(ctx context.Context, x float32) (float32, error) {
			stream, err := oipapi.NewGRPCInferenceServiceClient(streamConn).ModelStreamInfer(ctx)
			if err != nil {
				return 0, err
			}
			if err := stream.Send(infer(x)); err != nil {
				return 0, err
			}
			out, err := stream.Recv()
			if err != nil {
				return 0, err
			}
			if out.GetErrorMessage() != "" {
				return 0, fmt.Errorf("the stream says %q", out.GetErrorMessage())
			}
			return sum(out.GetInferResponse().GetRawOutputContents()[0], stream.CloseSend())
		}, nil},
		{"OIP HTTP", func(ctx context.Context, x float32) (float32, error) {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://picket/v2/models/"+model+"/infer", bytes.NewReader(row(x)))
			if err != nil {
				return 0, err
			}
			r.Header.Set("Inference-Header-Content-Length", "0")
			out, err := web.Do(r)
			if err != nil {
				return 0, err
			}
			defer out.Body.Close()
			body, err := io.ReadAll(out.Body)
			return sum(body[max(0, len(body)-4):], err) // behind a header in JSON
		}, nil},
	}
}

// Requests that come while the only instance is busy are one batch, whichever way
// they came.
func TestRequestsOfAllProtocolsAreOneBatch(t *testing.T) {
	f, running, open := stuck(t, engine.ModelOptions{})
	protocols := everyProtocol(t, f, "stuck")
	var clients sync.WaitGroup
	ask := func(p protocol, x float32) {
		clients.Go(func() {
			if y, err := p.ask(t.Context(), x); err != nil || y != x {
				t.Errorf("%s: the sum of a row is %v, %v; want %v", p.name, y, err, x)
			}
		})
	}
	ask(protocols[0], 1)
	<-running
	for i, p := range protocols {
		ask(p, float32(10+i))
		waitFor(t, "the request of "+p.name+" to wait", func() bool { return f.stats(t, "stuck").WaitingRows == i+1 })
	}
	open()
	clients.Wait()
	s := f.stats(t, "stuck")
	n := uint64(len(protocols))
	if s.Runs != 2 || s.RunRows != 1+n || s.Requests != 1+n || s.Gather.Count != 1 {
		t.Errorf("%d rows of %d requests took %d runs, of which %d were gathered; want %d rows in 2 runs, 1 of them gathered", s.RunRows, s.Requests, s.Runs, s.Gather.Count, 1+n)
	}
	waitFor(t, "all answers to be taken", func() bool { return f.stats(t, "stuck").Reply.Count == 1+n })
}

// A client that leaves takes along what waits, whichever way it asked, and the memory
// of its request comes back.
func TestClientsOfAllProtocolsLeave(t *testing.T) {
	f, running, open := stuck(t, engine.ModelOptions{})
	protocols := everyProtocol(t, f, "stuck")
	var first sync.WaitGroup
	first.Go(func() {
		if _, err := protocols[0].ask(t.Context(), 1); err != nil {
			t.Error(err)
		}
	})
	<-running
	before := tensor.MemoryUsage().Live
	for i, p := range protocols {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var leaver sync.WaitGroup
		leaver.Go(func() {
			if y, err := p.ask(ctx, 2); err == nil {
				t.Errorf("%s: a client that had left was answered with %v", p.name, y)
			}
		})
		waitFor(t, "the request of "+p.name+" to wait", func() bool { return f.stats(t, "stuck").WaitingRequests == 1 })
		if p.leave != nil {
			p.leave()
		} else {
			cancel()
		}
		leaver.Wait()
		waitFor(t, "the request of "+p.name+" to leave", func() bool { return f.stats(t, "stuck").WaitingRequests == 0 })
		waitFor(t, "it to be counted", func() bool { return f.stats(t, "stuck").Failed["canceled"] == uint64(i+1) })
		waitFor(t, "its memory to come back", func() bool { return tensor.MemoryUsage().Live == before })
	}
	open()
	first.Wait()
	if s := f.stats(t, "stuck"); s.Runs != 1 || !slices.Equal([]uint64{s.Rows, s.RunRows}, []uint64{1, 1}) {
		t.Errorf("%d runs of %d rows: what nobody waited for was run", s.Runs, s.RunRows)
	}
}
