package lane_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

func frame(h lanewire.Header, payload []byte) []byte {
	h.Payload = uint32(len(payload))
	b := make([]byte, lanewire.HeaderSize)
	h.Put(b)
	return append(b, payload...)
}

// FuzzAnswers lets a server say anything after its greeting: a call ends in time,
// with numbers or with one error of the package's.
func FuzzAnswers(f *testing.F) {
	specs := []lanewire.Spec{{Name: "x", DType: tensor.FP32, Dims: []int64{-1, 2}}}
	signature, err := lanewire.AppendSignature(nil, specs, specs)
	if err != nil {
		f.Fatal(err)
	}
	welcome := lanewire.Welcome{Version: 1, MaxMessage: lanewire.MaxMessage, MaxPayload: 1 << 20, MaxOutstanding: 10, MaxModels: 10}.Append(nil)
	const firstID = 1 << 32
	model := frame(lanewire.Header{Kind: lanewire.KindModel, ID: firstID, Handle: 1}, signature)
	result := frame(lanewire.Header{Kind: lanewire.KindResult, ID: 2 * firstID, Rows: 1}, make([]byte, 8))
	f.Add(welcome, append(model, result...))
	f.Add(welcome, model[:50])
	f.Add(welcome[:10], model)
	f.Add(welcome, frame(lanewire.Header{Kind: lanewire.KindError, ID: firstID}, lanewire.Failure{Code: 8, Retry: time.Second, Sentence: "busy"}.Append(nil)))
	f.Add(welcome, append(model, frame(lanewire.Header{Kind: lanewire.KindGoodbye}, nil)...))
	f.Add(welcome, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, welcome, said []byte) {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		served := make(chan struct{})
		go func() {
			defer close(served)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			// The client may have hung up.
			_, _ = conn.Write(frame(lanewire.Header{Kind: lanewire.KindWelcome}, welcome))
			_, _ = conn.Write(said)
			_ = conn.(*net.UnixConn).CloseWrite()
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			for b := make([]byte, 1000); err == nil; {
				_, err = conn.Read(b)
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c, err := lane.Dial(ctx, path, lane.Options{Stream: true, Timeout: 10 * time.Second})
		if err == nil {
			l.Close() // there is no second connection
			var m *lane.Model
			if m, err = c.Model(context.Background(), "m"); err == nil {
				if m.Signature() == nil {
					t.Fatal("a model without a signature")
				}
				_, err = m.PredictFloat32(context.Background(), []float32{1, 2})
			}
			c.Close()
		}
		var known *lane.Error
		if err != nil && (!errors.As(err, &known) || known.Error() == "") {
			t.Fatalf("an error that is not of the package: %v", err)
		}
		l.Close()
		<-served
		if ctx.Err() != nil {
			t.Fatal("the client did not notice that the server had left")
		}
	})
}
