package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

// protocol is a way to ask a daemon for predictions. One socket can have several.
type protocol struct {
	name    string
	address func(*daemon) (network, address string)
	// connect makes a well-behaved client of a model that takes rows of so many numbers and gives one for each.
	connect func(ctx context.Context, network, address, model string, features int) (caller, error)
}

// caller is a well-behaved client. It is used by one goroutine.
type caller interface {
	// predict asks for as many rows as x has, and gives an answer for each.
	predict(ctx context.Context, x []float32) ([]float32, error)
	io.Closer
}

// protocols are all that the daemon speaks. Over TCP there are gRPC and HTTP; HTTP is what slow clients are made of.
var protocols = []protocol{
	{"lane", unixSocket("unixpacket", "lane"), connectLane},
	{"lane-stream", unixSocket("unix", "lane-stream"), connectLane},
	{"agent", unixSocket("unix", "agent"), connectAgent},
	{"oip-grpc", unixSocket("unix", "oip"), connectOIP},
	{"oip-http", unixSocket("unix", "oip"), connectHTTP},
	{"tcp", func(d *daemon) (string, string) { return "tcp", d.tcp }, connectHTTP},
}

func unixSocket(network, name string) func(*daemon) (string, string) {
	return func(d *daemon) (string, string) { return network, d.socket(name) }
}

func (p protocol) client(ctx context.Context, d *daemon, model string, features int) (caller, error) {
	network, address := p.address(d)
	c, err := p.connect(ctx, network, address, model, features)
	if err != nil {
		return nil, fmt.Errorf("connecting over %s: %w", p.name, err)
	}
	return c, nil
}

// laneCaller asks over the lane.
type laneCaller struct {
	client *lane.Client
	model  *lane.Model
}

func connectLane(ctx context.Context, network, address, model string, _ int) (caller, error) {
	c, err := lane.Dial(ctx, address, lane.Options{Stream: network == "unix"})
	if err != nil {
		return nil, err
	}
	m, err := c.Model(ctx, model)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return &laneCaller{c, m}, nil
}

func (c *laneCaller) predict(ctx context.Context, x []float32) ([]float32, error) {
	return c.model.PredictFloat32(ctx, x)
}

// Close implements io.Closer.
func (c *laneCaller) Close() error { return c.client.Close() }

func dialGRPC(network, address string) (*grpc.ClientConn, error) {
	target := "passthrough:///" + address
	if network == "unix" {
		target = "unix://" + address
	}
	return grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// agentCaller asks in the agent's interface.
type agentCaller struct {
	*grpc.ClientConn
	agent    agentapi.AgentClient
	model    string
	features int
}

func connectAgent(_ context.Context, network, address, model string, features int) (caller, error) {
	conn, err := dialGRPC(network, address)
	if err != nil {
		return nil, err
	}
	return &agentCaller{conn, agentapi.NewAgentClient(conn), model, features}, nil
}

func (c *agentCaller) predict(ctx context.Context, x []float32) ([]float32, error) {
	out, err := c.agent.Predict(ctx, &agentapi.PredictRequest{Name: c.model, Tensors: []*agentapi.Tensor{{
		TensorMetadata: &agentapi.TensorMetadata{Name: []byte("data"), DataType: agentapi.DataType_FLOAT32, Shape: []int32{-1, int32(c.features)}},
		Data:           &agentapi.Tensor_ByteData{ByteData: tensor.AsBytes(x)},
	}}})
	if err != nil {
		return nil, err
	}
	if len(out.GetTensors()) != 1 {
		return nil, fmt.Errorf("%d tensors were answered", len(out.GetTensors()))
	}
	return floats(out.GetTensors()[0].GetByteData())
}

// oipCaller asks in the Open Inference Protocol over gRPC.
type oipCaller struct {
	*grpc.ClientConn
	oip      oipapi.GRPCInferenceServiceClient
	model    string
	features int
}

func connectOIP(_ context.Context, network, address, model string, features int) (caller, error) {
	conn, err := dialGRPC(network, address)
	if err != nil {
		return nil, err
	}
	return &oipCaller{conn, oipapi.NewGRPCInferenceServiceClient(conn), model, features}, nil
}

// inferRequest asks for rows of so many features; what they are is for the caller to say.
func inferRequest(model string, rows, features int) *oipapi.ModelInferRequest {
	return &oipapi.ModelInferRequest{ModelName: model, Inputs: []*oipapi.ModelInferRequest_InferInputTensor{
		{Name: "data", Datatype: "FP32", Shape: []int64{int64(rows), int64(features)}},
	}}
}

func (c *oipCaller) predict(ctx context.Context, x []float32) ([]float32, error) {
	in := inferRequest(c.model, len(x)/c.features, c.features)
	in.RawInputContents = [][]byte{tensor.AsBytes(x)}
	out, err := c.oip.ModelInfer(ctx, in)
	if err != nil {
		return nil, err
	}
	if len(out.GetRawOutputContents()) != 1 {
		return nil, fmt.Errorf("%d tensors were answered", len(out.GetRawOutputContents()))
	}
	return floats(out.GetRawOutputContents()[0])
}

// floats copies the numbers out of a message.
func floats(b []byte) ([]float32, error) {
	if len(b)%4 != 0 {
		return nil, fmt.Errorf("%d bytes were answered, which are no numbers", len(b))
	}
	out := make([]float32, len(b)/4)
	copy(tensor.AsBytes(out), b)
	return out, nil
}

// httpCaller asks in the Open Inference Protocol over HTTP, in JSON.
type httpCaller struct {
	client   *http.Client
	url      string
	features int
	body     bytes.Buffer
}

// httpPatience is for daemons that hang.
const httpPatience = time.Minute

func connectHTTP(_ context.Context, network, address, model string, features int) (caller, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	return &httpCaller{client: &http.Client{Transport: transport, Timeout: httpPatience}, url: "http://picket/v2/models/" + model + "/infer", features: features}, nil
}

func (c *httpCaller) predict(ctx context.Context, x []float32) ([]float32, error) {
	c.body.Reset()
	fmt.Fprintf(&c.body, `{"inputs":[{"name":"data","datatype":"FP32","shape":[%d,%d],"data":`, len(x)/c.features, c.features)
	data, err := json.Marshal(x)
	if err != nil {
		return nil, err
	}
	c.body.Write(data)
	c.body.WriteString("}]}")
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(c.body.Bytes()))
	if err != nil {
		return nil, err
	}
	reply, err := c.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		return nil, err
	}
	if reply.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", reply.Status, strings.TrimSpace(string(text)))
	}
	var out struct {
		Outputs []struct{ Data []float32 }
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("reading an answer: %w", err)
	}
	if len(out.Outputs) != 1 {
		return nil, fmt.Errorf("%d tensors were answered", len(out.Outputs))
	}
	return out.Outputs[0].Data, nil
}

// Close implements io.Closer.
func (c *httpCaller) Close() error {
	c.client.CloseIdleConnections()
	return nil
}
