package ensemble

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ErrFormat is answered (through errors.Is) when the content is no model file that this package reads, as opposed to
// one that is damaged or uses something that is not supported.
var ErrFormat = errors.New("not an XGBoost or LightGBM model file or an ONNX file of trees")

// Read reads a model to the end of r, which may hold no more than l.Bytes, and recognises its format by content.
func Read(r io.Reader, l Limits) (*Ensemble, error) {
	l = l.withDefaults()
	data, err := io.ReadAll(io.LimitReader(r, l.Bytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading model: %w", err)
	}
	return Parse(data, l)
}

// Parse is Read on bytes that are already in memory. It keeps no reference to data.
func Parse(data []byte, l Limits) (*Ensemble, error) {
	l = l.withDefaults()
	if int64(len(data)) > l.Bytes {
		return nil, fmt.Errorf("reading model: it is larger than the limit of %d bytes", l.Bytes)
	}
	format, err := recognise(data)
	if err != nil {
		return nil, err
	}
	var e *Ensemble
	switch format {
	case "json":
		e, err = readXGBoost(newJSON(data, l.Nesting), format, l)
	case "ubjson":
		e, err = readXGBoost(newUBJSON(data, l.Nesting), format, l)
	case "binary":
		e, err = readXGBoostBinary(data, l)
	case "text":
		e, err = readLightGBM(data, l)
	case "onnx":
		e, err = readONNX(data, l)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s model: %w", map[string]string{"json": "XGBoost JSON", "ubjson": "XGBoost UBJSON",
			"binary": "XGBoost binary", "text": "LightGBM", "onnx": "ONNX"}[format], err)
	}
	return e, nil
}

// Recognise names the format of a file by its first bytes ("json", "ubjson", "binary", "text", "onnx"), or says why it
// is none of them. 256 bytes are enough. A JSON or ONNX file of something else is found out only by Parse.
func Recognise(head []byte) (string, error) { return recognise(head) }

func recognise(data []byte) (string, error) {
	switch {
	case len(data) == 0:
		return "", fmt.Errorf("reading model: %w: the file is empty", ErrFormat)
	case bytes.HasPrefix(data, []byte("tree\n")), bytes.HasPrefix(data, []byte("tree\r\n")):
		return "text", nil
	case bytes.HasPrefix(data, []byte(xgbMagic)), bytes.HasPrefix(data, []byte(xgbSnapshot)), isXGBoostBinary(data):
		return "binary", nil
	case isPickle(data):
		return "", fmt.Errorf("reading model: %w: %s", ErrFormat, pickleRefusal(data))
	case isTreelite(data):
		return "", fmt.Errorf("reading model: %w: this looks like a Treelite checkpoint, which is not supported; give the model file that Treelite imported", ErrFormat)
	case isONNX(data):
		return "onnx", nil
	}
	text := bytes.TrimLeft(data, " \t\r\n")
	if len(text) > 0 && text[0] == '{' {
		if len(text) == 1 {
			return "json", nil
		}
		switch text[1] {
		case '"', ' ', '\t', '\r', '\n', '}':
			return "json", nil
		case 'L', 'l', 'I', 'i', 'U', 'u', 'm', 'M', '#', '$', 'N':
			return "ubjson", nil
		}
	}
	return "", fmt.Errorf("reading model: %w: it starts like none of XGBoost's JSON, UBJSON and binary formats, LightGBM's text or ONNX", ErrFormat)
}
