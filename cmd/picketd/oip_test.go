//go:build cgo && linux

package main

import (
	"context"
	bits "encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// A real model answers over every way to the Open Inference Protocol with the
// trainer's scores.
func TestOpenInferenceProtocol(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "picketd.yaml")
	text := fmt.Sprintf("sockets: {dir: %s}\ntcp: {listen: [\"127.0.0.1:0\"]}\nmodels: [{name: fraud, path: %s}]\nunsigned: true\n", dir, fraudModel(t))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, filepath.Join(dir, "agent.sock"), nil, "--config", file)
	p.connect(t)
	_, ready, _ := strings.Cut(p.stderr.String(), "msg=ready")
	port := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(ready)
	const n = 100
	rows, want := testkit.Rows(10000, fraudFeatures)[:n*fraudFeatures], testkit.ReadF32(t, fraudPrediction)[:n]

	socket := filepath.Join(dir, "oip.sock")
	for _, target := range []string{"unix://" + socket, "unix://" + filepath.Join(dir, "control.sock"), port} {
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		client := oipapi.NewGRPCInferenceServiceClient(conn)
		out, err := client.ModelInfer(t.Context(), &oipapi.ModelInferRequest{
			ModelName:        "fraud",
			Inputs:           []*oipapi.ModelInferRequest_InferInputTensor{{Name: "data", Datatype: "FP32", Shape: []int64{n, fraudFeatures}}},
			RawInputContents: [][]byte{tensor.AsBytes(rows)},
		})
		if err != nil {
			t.Fatal(err)
		}
		checkScoreBytes(t, out.GetRawOutputContents()[0], want)
		_, err = client.RepositoryModelLoad(t.Context(), &oipapi.RepositoryModelLoadRequest{ModelName: "fraud"})
		if wanted := map[bool]codes.Code{true: codes.OK, false: codes.PermissionDenied}[strings.HasSuffix(target, "control.sock")]; status.Code(err) != wanted {
			t.Errorf("loading over %s: %v, want %v", target, err, wanted)
		}
	}
	unix := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	for client, base := range map[*http.Client]string{unix: "http://picketd", {Transport: &http.Transport{}}: "http://" + port} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", base+"/v2/models/fraud/infer", strings.NewReader(string(tensor.AsBytes(rows))))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Inference-Header-Content-Length", "0")
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != 200 {
			t.Fatalf("%d %s, %v", answer.StatusCode, body, err)
		}
		checkScoreBytes(t, body[len(body)-4*n:], want)
		client.CloseIdleConnections()
	}
	p.stop(t)
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the daemon left its socket")
	}
}

func checkScoreBytes(t *testing.T, data []byte, want []float32) {
	t.Helper()
	if len(data) != 4*len(want) {
		t.Fatalf("%d bytes for %d scores", len(data), len(want))
	}
	for i, w := range want {
		got := math.Float32frombits(bits.LittleEndian.Uint32(data[4*i:]))
		if math.Abs(float64(got-w)) > fraudTolerance || got != got {
			t.Fatalf("row %d scores %v, the trainer says %v", i, got, w)
		}
	}
}
