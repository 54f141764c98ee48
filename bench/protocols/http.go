package protocols

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"
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
func (a Ask) HTTP(form Form, path string) func() (Client, error) {
	return func() (Client, error) {
		conn, err := net.DialTimeout(a.network(), a.Address, connectPatience)
		if err != nil {
			return nil, err
		}
		return &httpClient{Ask: a, form: form, path: path, Conn: conn, in: bufio.NewReader(conn)}, nil
	}
}

type httpClient struct {
	Ask
	net.Conn
	form Form
	path string
	in   *bufio.Reader

	first         int
	request, body []byte       // kept from call to call
	answer        bytes.Buffer // likewise
	header        string       // how long the JSON before raw bytes of the answer is
	values        []float32
	until         time.Time // what the connection waits for at most
}

// answerPatience bounds the wait for an answer over HTTP: a server that hangs would be waited for without end.
const answerPatience = 2 * time.Minute

func (c *httpClient) Prepare(random *rand.Rand) {
	c.first = c.choose(random)
	c.compose(c.first)
}

// HTTPError is a status that is not 200.
type HTTPError struct {
	Status int
	Body   string
}

// Error implements error.
func (e *HTTPError) Error() string { return fmt.Sprintf("status %d: %.300q", e.Status, e.Body) }

func (c *httpClient) Do(_ context.Context) error {
	// Once in a while is enough, and setting it takes a call of the runtime's poller.
	if now := time.Now(); c.until.Sub(now) < answerPatience/2 {
		c.until = now.Add(answerPatience)
		if err := c.SetDeadline(c.until); err != nil {
			return err
		}
	}
	if _, err := c.Write(c.request); err != nil {
		return err
	}
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return fmt.Errorf("reading an answer: %w", err)
	}
	c.answer.Reset()
	if _, err := c.answer.ReadFrom(response.Body); err != nil {
		return fmt.Errorf("reading an answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return &HTTPError{response.StatusCode, c.answer.String()}
	}
	c.header = response.Header.Get(headerLength)
	return nil
}

func (c *httpClient) Check() (_ int, err error) {
	answer := c.answer.Bytes()
	size := len(answer)
	if c.form == Binary {
		n, err := strconv.Atoi(c.header)
		if err != nil || n < 0 || n > size {
			return 0, fmt.Errorf("an answer of %d bytes says %q of the JSON before raw bytes", size, c.header)
		}
		c.values = Floats(c.values[:0], answer[n:])
	} else if c.values, err = numbers(c.values[:0], answer); err != nil {
		return 0, err
	}
	return size, c.Rows.Check(c.first, c.Count, c.values)
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
