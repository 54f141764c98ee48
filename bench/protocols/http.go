package protocols

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/picket-ml/picket/bench/versus"
)

// Form is how tensors go over HTTP.
type Form int

// The forms: numbers in JSON, or JSON before raw bytes (the binary data extension), asked for in the answer as well.
const (
	JSON Form = iota
	Binary
)

// headerLength says how long the JSON before raw bytes is.
const headerLength = "Inference-Header-Content-Length"

// Path is where the protocol has a model's predictions over HTTP.
func Path(model string) string { return "/v2/models/" + model + "/infer" }

// HTTP gives clients of the Open Inference Protocol over HTTP/1.1, at path. They have one connection each, write a request at
// once and read an answer as net/http does: a client of net/http would cost more than some of the servers.
func (a Ask) HTTP(form Form, path string) func() (versus.Call, io.Closer, error) {
	return func() (versus.Call, io.Closer, error) {
		conn, err := net.DialTimeout(a.network(), a.Address, connectPatience)
		if err != nil {
			return nil, nil, err
		}
		// A server that hangs would be waited for without end.
		if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
			return nil, nil, errors.Join(err, conn.Close())
		}
		c := &httpClient{Ask: a, form: form, path: path, conn: conn, in: bufio.NewReader(conn)}
		return c.call, conn, nil
	}
}

type httpClient struct {
	Ask
	form Form
	path string
	conn net.Conn
	in   *bufio.Reader

	request, body []byte       // kept from call to call
	answer        bytes.Buffer // likewise
	values        []float32
}

func (c *httpClient) call(_ context.Context, random *rand.Rand) (time.Duration, int, error) {
	first := c.choose(random)
	c.compose(first)
	start := time.Now()
	if _, err := c.conn.Write(c.request); err != nil {
		return 0, 0, err
	}
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, 0, fmt.Errorf("reading an answer: %w", err)
	}
	c.answer.Reset()
	if _, err := c.answer.ReadFrom(response.Body); err != nil {
		return 0, 0, fmt.Errorf("reading an answer: %w", err)
	}
	took := time.Since(start)
	answer := c.answer.Bytes()
	if response.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("status %d: %.300q", response.StatusCode, answer)
	}
	size := len(answer)
	if length := response.Header.Get(headerLength); c.form == Binary {
		n, err := strconv.Atoi(length)
		if err != nil || n < 0 || n > size {
			return 0, 0, fmt.Errorf("an answer of %d bytes says %q of the JSON before raw bytes", size, length)
		}
		c.values = floats(c.values[:0], answer[n:])
	} else if c.values, err = numbers(c.values[:0], answer); err != nil {
		return 0, 0, err
	}
	return took, size, c.Rows.check(first, c.Count, c.values)
}

// compose makes the request for the rows from first on.
func (c *httpClient) compose(first int) {
	shape := c.shape()
	c.body = fmt.Appendf(c.body[:0], `{"inputs":[{"name":"data","datatype":"FP32","shape":[%d,%d],`, shape[0], shape[1])
	extra := ""
	if c.form == Binary {
		raw := c.raw(first)
		c.body = fmt.Appendf(c.body, `"parameters":{"binary_data_size":%d}}],"parameters":{"binary_data_output":true}}`, len(raw))
		extra = fmt.Sprintf("%s: %d\r\n", headerLength, len(c.body))
		c.body = append(c.body, raw...)
	} else {
		c.body = append(c.body, `"data":[`...)
		for i := range c.Count {
			if i > 0 {
				c.body = append(c.body, ',')
			}
			c.body = append(c.body, c.Rows.texts[first+i]...)
		}
		c.body = append(c.body, "]}]}"...)
	}
	kind := "application/json"
	if c.form == Binary {
		kind = "application/octet-stream"
	}
	c.request = fmt.Appendf(c.request[:0], "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n", c.path, kind, extra, len(c.body))
	c.request = append(c.request, c.body...)
}

// numbers appends the numbers of the one "data" in a JSON answer, nested or not, to values.
func numbers(values []float32, answer []byte) ([]float32, error) {
	_, data, found := bytes.Cut(answer, []byte(`"data"`))
	if !found {
		return nil, fmt.Errorf("an answer without data: %.300q", answer)
	}
	depth, start := 0, 0
	for i, b := range data {
		switch b {
		case '[':
			depth++
			start = i + 1
		case ',', ']':
			if text := bytes.TrimSpace(data[start:i]); len(text) > 0 {
				v, err := strconv.ParseFloat(string(text), 32)
				if err != nil {
					return nil, fmt.Errorf("reading a number of an answer: %w", err)
				}
				values = append(values, float32(v))
			}
			start = i + 1
			if b == ']' {
				depth--
			}
			if depth == 0 {
				return values, nil
			}
		}
	}
	return nil, fmt.Errorf("an answer that is cut short: %.300q", answer)
}
