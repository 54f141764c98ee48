package protocols

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"

	emptyserver "github.com/picket-ml/picket/bench/empty"
	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

// TestWaitInKernel asks past Go's poller, is answered, and closes the connection while a call waits in the kernel, which ends it.
func TestWaitInKernel(t *testing.T) {
	t.Parallel()
	const answered = 2
	ctx, end := context.WithCancel(context.Background())
	socket, served, unanswered := filepath.Join(t.TempDir(), "lane.sock"), make(chan error, 1), make(chan struct{})
	asked, zeros := 0, make([]byte, lanewire.MaxMessage)
	go func() {
		served <- emptyserver.Serve(ctx, socket, func(h *lanewire.Header) (lanewire.Header, []byte, bool) {
			if h.Kind == lanewire.KindPredict {
				if asked++; asked > answered {
					close(unanswered)
					return lanewire.Header{}, nil, true
				}
			}
			return lanewire.Header{Kind: h.Kind + 1, ID: h.ID, Handle: h.Handle, Rows: h.Rows}, zeros[:4*h.Rows], true
		})
	}()
	defer func() {
		end()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	data, err := tensor.New("data", tensor.FP32, tensor.MustShape(8, 3))
	if err != nil {
		t.Fatal(err)
	}
	defer data.Buffer.Release()
	c, err := Ask{Address: socket, Model: "any", Rows: &Rows{Data: data, Answers: make([]float32, 8)}, Count: 2}.Lane(1)()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.(KernelWaiter).WaitInKernel(); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for range answered {
		c.Prepare(random)
		if err := c.Do(ctx); err != nil {
			t.Fatal(err)
		}
		if size, err := c.Check(); err != nil || size != lanewire.HeaderSize+2*4 {
			t.Errorf("the answer has %d bytes: %v", size, err)
		}
	}
	ended := make(chan error, 1)
	c.Prepare(random)
	go func() { ended <- c.Do(ctx) }()
	<-unanswered
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("a call whose connection was closed has an answer")
	}
}
