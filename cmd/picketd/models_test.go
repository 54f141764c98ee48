//go:build cgo && linux

package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	controlapi "github.com/picket-ml/picket/internal/api/control"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// The model of these tests: XGBoost's, compiled by Treelite 2.4.0 for amd64.
const (
	fraudDir        = "treelite/fraud-tl2.4.0"
	fraudPrediction = "models/xgboost/fraud-1.7.6.prediction.f32"
	fraudFeatures   = 30
	fraudTolerance  = 1e-6 // Treelite adds the trees up in another order
)

// ownFraud is where fraudModel has compiled that model to, once for all tests.
var ownFraud struct {
	sync.Mutex
	dir string
}

// fraudModel returns the folder of that model, in which there is its library and nothing else. For another machine `picket compile` makes the library, of the
// file that Treelite's was made of.
func fraudModel(t *testing.T) (dir string) {
	t.Helper()
	if runtime.GOARCH == "amd64" {
		return testkit.Path(t, fraudDir)
	}
	ownFraud.Lock()
	defer ownFraud.Unlock()
	if ownFraud.dir == "" {
		artifact, dir := compiledModel(t), filepath.Join(filepath.Dir(binary), "fraud")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		copyFile(t, filepath.Join(artifact, "compiled.so"), filepath.Join(dir, "compiled.so"))
		ownFraud.dir = dir
	}
	return ownFraud.dir
}

func predictRows(name string, rows []float32) *agentapi.PredictRequest {
	return &agentapi.PredictRequest{Name: name, Tensors: []*agentapi.Tensor{{
		TensorMetadata: &agentapi.TensorMetadata{Name: []byte("data"), DataType: agentapi.DataType_FLOAT32, Shape: []int32{-1, fraudFeatures}},
		Data:           &agentapi.Tensor_ByteData{ByteData: tensor.AsBytes(rows)},
	}}}
}

// checkScores wants the trainer's answers for the first n rows of testkit.
func (p *process) checkScores(t *testing.T, name string, n int) {
	t.Helper()
	rows := testkit.Rows(10000, fraudFeatures)[:n*fraudFeatures]
	out, err := p.Predict(t.Context(), predictRows(name, rows))
	if err != nil {
		t.Fatal(err)
	}
	if err := sameScores(out, testkit.ReadF32(t, fraudPrediction)[:n]); err != nil {
		t.Fatal(err)
	}
}

func sameScores(out *agentapi.PredictResponse, want []float32) error {
	if len(out.GetTensors()) != 1 {
		return fmt.Errorf("%d tensors were answered", len(out.GetTensors()))
	}
	answer := out.Tensors[0]
	if shape := answer.GetTensorMetadata().GetShape(); len(shape) != 2 || shape[0] != int32(len(want)) || shape[1] != 1 {
		return fmt.Errorf("the shape is %v", shape)
	}
	data := answer.GetByteData()
	if len(data) != 4*len(want) {
		return fmt.Errorf("%d bytes were answered for %d rows", len(data), len(want))
	}
	for i, w := range want {
		bits := uint32(data[4*i]) | uint32(data[4*i+1])<<8 | uint32(data[4*i+2])<<16 | uint32(data[4*i+3])<<24
		if got := math.Float32frombits(bits); math.Abs(float64(got-w)) > fraudTolerance || got != got {
			return fmt.Errorf("row %d scores %v, the trainer says %v", i, got, w)
		}
	}
	return nil
}

func TestServesARealModel(t *testing.T) {
	dir := fraudModel(t)
	p := startDaemon(t, t.TempDir(), "--unsigned", "--model", "fraud="+dir, "--model", "gone=/nowhere")
	p.checkScores(t, "fraud", 1)
	p.checkScores(t, "fraud", 10000)
	list, err := p.ListModels(t.Context(), &agentapi.ListModelsRequest{})
	if err != nil || len(list.GetModels()) != 1 || list.Models[0].GetName() != "fraud" || list.Models[0].GetUrl() != dir {
		t.Errorf("ListModels answers %v, %v", list, err)
	}
	explained, err := p.control.Explain(t.Context(), &controlapi.ExplainRequest{Name: "fraud"})
	if err != nil || explained.GetChosen() != "treelite" || len(explained.GetCandidates()) == 0 {
		t.Errorf("Explain answers %v, %v", explained, err)
	}
	stats, err := p.control.Stats(t.Context(), &controlapi.StatsRequest{})
	if err != nil || len(stats.GetModels()) != 1 || stats.Models[0].GetRequests() != 2 || stats.Models[0].GetRows() != 10001 || stats.Models[0].GetLatency().GetCount() != 2 {
		t.Errorf("Stats answers %v, %v", stats, err)
	}
	if _, err := p.UnLoadModel(t.Context(), &agentapi.UnLoadModelRequest{Name: "fraud"}); err != nil {
		t.Error(err)
	}
	if _, err := p.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "again", Url: dir}); err != nil {
		t.Error(err)
	}
	p.checkScores(t, "again", 100)
	p.stop(t)
}

// Urls that a client must not get through, by the daemon's own configuration.
func TestModelRoots(t *testing.T) {
	top := t.TempDir()
	fraud := fraudModel(t)
	models := filepath.Join(top, "models")
	if err := os.CopyFS(filepath.Join(models, "fraud"), os.DirFS(fraud)); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"in": "fraud", "out": fraud, "up": "..", "broken": "nothing"} {
		if err := os.Symlink(to, filepath.Join(models, link)); err != nil {
			t.Fatal(err)
		}
	}
	// A library that is not the package's own, by a link inside the package.
	if err := os.Mkdir(filepath.Join(models, "linked"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(fraud, "compiled.so"), filepath.Join(models, "linked", "compiled.so")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(top, "c.yaml")
	text := fmt.Sprintf("model_roots: [%s]\nunsigned: true\nmodels: [{name: named, path: %s}]\n", models, fraud)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := startDaemon(t, filepath.Join(top, "run"), "-c", file)
	p.checkScores(t, "named", 10) // the operator's own choice is not restricted
	for url, want := range map[string]codes.Code{
		models + "/fraud":               codes.OK,
		models + "/in":                  codes.OK,
		models + "/in/../fraud/":        codes.OK,
		models + "/nothing":             codes.NotFound,
		models + "/broken":              codes.NotFound,
		models + "/fraud/compiled.so":   codes.FailedPrecondition,
		models + "/out":                 codes.FailedPrecondition,
		models + "/up":                  codes.FailedPrecondition,
		models + "/up/models/fraud":     codes.FailedPrecondition,
		models + "/linked":              codes.FailedPrecondition,
		models + "/../models-not/fraud": codes.FailedPrecondition,
		filepath.Dir(fraud):             codes.FailedPrecondition,
		"/":                             codes.FailedPrecondition,
		"/proc/self/root" + models:      codes.FailedPrecondition,
		"relative/to/the/daemon":        codes.FailedPrecondition,
		"":                              codes.NotFound,
	} {
		_, err := p.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "m", Url: url})
		if status.Code(err) != want {
			t.Errorf("LoadModel of %q: %v, want %v", url, err, want)
		}
		if err == nil {
			p.checkScores(t, "m", 10)
			if _, err := p.UnLoadModel(t.Context(), &agentapi.UnLoadModelRequest{Name: "m"}); err != nil {
				t.Fatal(err)
			}
		} else if m := status.Convert(err).Message(); strings.ContainsAny(m, "0123456789") || strings.Contains(m, top) {
			t.Errorf("LoadModel of %q: the message has digits or a path: %q", url, m)
		}
	}
	p.checkScores(t, "named", 10)
	p.stop(t)
}

// SIGTERM while requests are under way: every request that had reached the
// connection before the signal is answered, and answered right.
func TestStopUnderLoad(t *testing.T) {
	p := startDaemon(t, t.TempDir(), "--unsigned", "--model", "fraud="+fraudModel(t))
	want := testkit.ReadF32(t, fraudPrediction)
	rows := testkit.Rows(10000, fraudFeatures)
	type call struct {
		sent, ended int64 // nanoseconds of the clock; sent is 0 if it never was
		err         error
	}
	const clients = 8
	calls := make([][]call, clients)
	var answered atomic.Int64
	var done sync.WaitGroup
	for c := range clients {
		done.Go(func() {
			// Small and large requests, so that some are under way at any time.
			n := []int{1, 10, 1000, 10000}[c%4]
			request := predictRows("fraud", rows[:n*fraudFeatures])
			for {
				ctx, sent := withSent(t.Context())
				out, err := p.Predict(ctx, request)
				one := call{sent.Load(), time.Now().UnixNano(), err}
				if err == nil {
					one.err = sameScores(out, want[:n])
					answered.Add(1)
				}
				calls[c] = append(calls[c], one)
				if err != nil {
					return
				}
			}
		})
	}
	for end := time.Now().Add(time.Minute); answered.Load() < 100; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("only %d requests were answered", answered.Load())
		}
	}
	signalled := time.Now().UnixNano()
	p.signal(t, syscall.SIGTERM)
	done.Wait()
	underWay, refused := 0, 0
	for c := range calls {
		for _, one := range calls[c] {
			if one.sent != 0 && one.sent < signalled {
				if one.ended > signalled {
					underWay++
				}
				if one.err != nil {
					t.Errorf("a request that was under way failed: %v", one.err)
				}
			} else if one.err != nil {
				refused++
				if code := status.Code(one.err); code != codes.Unavailable {
					t.Errorf("a request after the signal failed with %v", one.err)
				}
			}
		}
	}
	if underWay == 0 || refused != clients {
		t.Errorf("%d requests were under way at the signal and %d clients were refused after it; the test shows nothing", underWay, refused)
	}
	if code := p.wait(t); code != exitDone {
		t.Errorf("the daemon ended with %d:\n%s", code, &p.stderr)
	}
}

// Calls that take longer than the grace time, or than whoever signals a second
// time wants to wait, are cut off.
func TestStopsThatDoNotWait(t *testing.T) {
	for _, test := range []struct {
		name  string
		grace string
		stop  func(*process)
		says  string
	}{
		{"grace", "10ms", func(p *process) {}, "calls were cut off"},
		{"second signal", "1h", func(p *process) {
			p.waitForLog(t, "stopping: calls")
			time.Sleep(sameWish)
			p.signal(t, syscall.SIGINT)
		}, "second signal"},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "c.yaml")
		if err := os.WriteFile(file, []byte("shutdown: {grace: "+test.grace+"}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		p := startDaemon(t, dir, "-c", file)
		// A call whose client never gets to sending the request does not end by itself.
		endless, err := p.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, agentapi.Agent_Predict_FullMethodName)
		if err != nil {
			t.Fatal(err)
		}
		p.checkAnswers(t) // so the daemon knows of the call, which came first on the connection
		p.signal(t, syscall.SIGTERM)
		test.stop(p)
		if code := p.wait(t); code != exitFailed || !strings.Contains(p.stderr.String(), test.says) {
			t.Errorf("%s: ended with %d, want %d and a line that says %q:\n%s", test.name, code, exitFailed, test.says, &p.stderr)
		}
		if err := endless.RecvMsg(&agentapi.PredictResponse{}); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: the call that was cut off ended with %v", test.name, err)
		}
		if _, err := os.Lstat(p.path); err == nil {
			t.Errorf("%s: the socket is still there", test.name)
		}
	}
}
