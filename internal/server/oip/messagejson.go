package oip

import (
	"encoding/json"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// appendMessage appends a message as JSON the way Triton writes it, which is not
// protobuf's own: fields have the names of the .proto, numbers of 64 bits are
// numbers and no strings, and what is 0 or empty is there. Messages that are not
// set are not.
func appendMessage(dst []byte, m protoreflect.Message) []byte {
	dst = append(dst, '{')
	fields := m.Descriptor().Fields()
	first := true
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.HasPresence() && !m.Has(f) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendText(dst, string(f.Name())), ':')
		dst = appendField(dst, f, m.Get(f))
	}
	return append(dst, '}')
}

func appendField(dst []byte, f protoreflect.FieldDescriptor, v protoreflect.Value) []byte {
	switch {
	case f.IsMap():
		dst = append(dst, '{')
		first := true
		v.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(appendText(dst, key.String()), ':')
			dst = appendValue(dst, f.MapValue(), value)
			return true
		})
		return append(dst, '}')
	case f.IsList():
		dst = append(dst, '[')
		for i := range v.List().Len() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendValue(dst, f, v.List().Get(i))
		}
		return append(dst, ']')
	}
	return appendValue(dst, f, v)
}

// appendValue appends one value. The messages that are written have no other
// kinds.
func appendValue(dst []byte, f protoreflect.FieldDescriptor, v protoreflect.Value) []byte {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return appendMessage(dst, v.Message())
	case protoreflect.EnumKind:
		if name := f.Enum().Values().ByNumber(v.Enum()); name != nil {
			return appendText(dst, string(name.Name()))
		}
		return strconv.AppendInt(dst, int64(v.Enum()), 10)
	case protoreflect.BoolKind:
		return strconv.AppendBool(dst, v.Bool())
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		return strconv.AppendInt(dst, v.Int(), 10)
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return strconv.AppendUint(dst, v.Uint(), 10)
	}
	return appendText(dst, v.String())
}

// appendText appends a JSON string.
func appendText(dst []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return append(dst, `""`...) // which cannot be: any string can be written
	}
	return append(dst, b...)
}
