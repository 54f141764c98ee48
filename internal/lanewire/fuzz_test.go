package lanewire

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/picket-ml/picket/tensor"
)

// FuzzSignature holds what is read to what is written: a signature that is
// understood is the bytes that it was.
func FuzzSignature(f *testing.F) {
	for _, specs := range [][]Spec{
		{{"data", tensor.FP32, []int64{-1, 30}}},
		{{"a", tensor.Bool, nil}, {"b\u00e9", tensor.BF16, []int64{1, 3, 8, 8}}},
	} {
		b, err := AppendSignature(nil, specs, specs[:1])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 11, 8, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		inputs, outputs, err := ParseSignature(b)
		if err != nil {
			if inputs != nil || outputs != nil {
				t.Errorf("a signature that is refused is %v, %v", inputs, outputs)
			}
			return
		}
		again, err := AppendSignature(nil, inputs, outputs)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("% x was read as %v, %v and written as % x, %v", b, inputs, outputs, again, err)
		}
	})
}

// FuzzHeader does the same for headers and the payloads of fixed form.
func FuzzHeader(f *testing.F) {
	h := Header{KindPredict, 12, 7, 1, 2, 3, FlagLow}
	b := make([]byte, HeaderSize)
	h.Put(b)
	f.Add(b, Failure{8, time.Millisecond, "busy"}.Append(nil))
	f.Add(b, Welcome{Version, 0, MaxMessage, 1 << 20, 10, 10, [16]byte{1}}.Append(nil))
	f.Add(bytes.Repeat([]byte{0xff}, HeaderSize), Hello{1, 2, 3}.Append(nil))
	f.Fuzz(func(t *testing.T, header, payload []byte) {
		var h Header
		if len(header) >= HeaderSize && h.Parse(header) == nil {
			again := make([]byte, HeaderSize)
			if h.Put(again); !bytes.Equal(again, header[:HeaderSize]) {
				t.Errorf("% x was read as %+v and written as % x", header, h, again)
			}
		}
		if hello, err := ParseHello(payload); err == nil && !bytes.Equal(hello.Append(nil), payload[:HelloSize]) {
			t.Errorf("% x was read as %+v", payload, hello)
		}
		if w, err := ParseWelcome(payload); err == nil {
			if again, err := ParseWelcome(w.Append(nil)); err != nil || !reflect.DeepEqual(w, again) {
				t.Errorf("% x was read as %+v and then as %+v, %v", payload, w, again, err)
			}
		}
		if said, err := ParseFailure(payload); err == nil {
			if again, err := ParseFailure(said.Append(nil)); err != nil || again != said {
				t.Errorf("% x was read as %+v and then as %+v, %v", payload, said, again, err)
			}
		}
	})
}

// The numbers of element types are those of the specification, whatever order Go
// lists them in.
func TestElementTypes(t *testing.T) {
	want := []tensor.DType{
		tensor.Bool, tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64, tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64,
		tensor.FP16, tensor.FP32, tensor.FP64, tensor.BF16,
	}
	for i, d := range want {
		b, err := AppendSignature(nil, []Spec{{"x", d, []int64{-1}}}, nil)
		if err != nil || b[4] != byte(i+1) {
			t.Errorf("%s has the number %d, %v; want %d", d, b[4], err, i+1)
		}
	}
	if _, err := AppendSignature(nil, []Spec{{"x", tensor.Bytes, []int64{-1}}}, nil); err == nil {
		t.Error("elements of varying length have a number")
	}
}
