package onnxwire

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// message is one of each kind of field, with numbers packed and alone.
func message() []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7)
	b = protowire.AppendFixed32(protowire.AppendTag(b, 2, protowire.Fixed32Type), math.Float32bits(0.5))
	b = protowire.AppendFixed64(protowire.AppendTag(b, 3, protowire.Fixed64Type), math.Float64bits(-2))
	b = protowire.AppendString(protowire.AppendTag(b, 4, protowire.BytesType), "text")
	return protowire.AppendBytes(protowire.AppendTag(b, 5, protowire.BytesType), protowire.AppendVarint(protowire.AppendVarint(nil, 300), 1))
}

// all are the fields of a message.
func all(t *testing.T, b []byte) (list []Field) {
	t.Helper()
	if err := Fields(b, func(f Field) error { list = append(list, f); return nil }); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestFields(t *testing.T) {
	f := all(t, message())
	if len(f) != 5 {
		t.Fatalf("%d fields: %+v", len(f), f)
	}
	if n, err := f[0].Integer(); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if s, err := f[3].Text(); s != "text" || err != nil {
		t.Errorf("%q, %v", s, err)
	}
	ints, err := f[0].AppendInts(nil)
	if err == nil {
		ints, err = f[4].AppendInts(ints)
	}
	if !slices.Equal(ints, []int32{7, 300, 1}) || err != nil || f[0].Integers() != 1 || f[4].Integers() != 2 {
		t.Errorf("integers %v, %v", ints, err)
	}
	floats, err := f[1].AppendFloats(nil, 4)
	if err == nil {
		floats, err = f[2].AppendFloats(floats, 8)
	}
	if !slices.Equal(floats, []float64{0.5, -2}) || err != nil {
		t.Errorf("floats %v, %v", floats, err)
	}
	stop := errors.New("enough")
	if err := Fields(message(), func(Field) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the visitor's error became %v", err)
	}
}

// A field of another kind than it is asked for is an error, and so is what does not fit.
func TestFieldsOfOtherKinds(t *testing.T) {
	f := all(t, message())
	for name, err := range map[string]error{
		"a number as text":       second(f[0].Text()),
		"a number as a message":  f[0].Each(func([]byte) error { return nil }),
		"a text as a number":     second(f[3].Integer()),
		"a double as a float":    second(f[2].AppendFloats(nil, 4)),
		"a float as integers":    second(f[1].AppendInts(nil)),
		"three bytes as floats":  second(Field{Kind: protowire.BytesType, Bytes: []byte("abc")}.AppendFloats(nil, 4)),
		"an integer without end": second(Field{Kind: protowire.BytesType, Bytes: []byte{0x80}}.AppendInts(nil)),
		"an integer of 33 bits":  second(Field{Kind: protowire.VarintType, Bits: 1 << 32}.AppendInts(nil)),
		"a name of 4097 letters": second(Field{Kind: protowire.BytesType, Bytes: []byte(strings.Repeat("a", maxText+1))}.Text()),
		"a message that is cut":  Fields(message()[:len(message())-1], func(Field) error { return nil }),
		"a tag that is cut":      Fields([]byte{0x80}, func(Field) error { return nil }),
		"a length of 2^62":       Fields([]byte("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x3f"), func(Field) error { return nil }),
		"a group":                Fields(protowire.AppendTag(nil, 1, protowire.StartGroupType), func(Field) error { return nil }),
		"a field of number 0":    Fields([]byte{0}, func(Field) error { return nil }),
	} {
		if err == nil {
			t.Errorf("%s is no error", name)
		}
	}
}

// second is the second of two.
func second[T any](_ T, err error) error { return err }
