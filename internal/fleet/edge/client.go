package edge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Client asks a server of the API. It may be used by many goroutines at once.
type Client struct {
	endpoint    string
	region      string
	credentials aws.CredentialsProvider
	http        *http.Client
	now         func() time.Time
	signer      *v4.Signer

	mu    sync.Mutex
	ahead time.Duration // of the server's clock
}

// ClientOptions are those of NewClient.
type ClientOptions struct {
	// Endpoint is a URL such as https://fleet.example:8443.
	Endpoint    string
	Region      string
	Credentials aws.CredentialsProvider
	HTTP        *http.Client
	Now         func() time.Time // time.Now, or a test's
}

// NewClient makes a client; it asks nothing yet.
func NewClient(o ClientOptions) (*Client, error) {
	if !strings.HasPrefix(o.Endpoint, "http://") && !strings.HasPrefix(o.Endpoint, "https://") {
		return nil, fmt.Errorf("the endpoint %.200q is no URL of a fleet's server, such as https://fleet.example:8443", o.Endpoint)
	}
	c := &Client{endpoint: strings.TrimRight(o.Endpoint, "/"), region: o.Region, credentials: o.Credentials, http: o.HTTP, now: o.Now, signer: v4.NewSigner()}
	if c.http == nil {
		c.http = &http.Client{Timeout: 30 * time.Second}
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c, nil
}

// Registration asks for a device's registration.
func (c *Client) Registration(ctx context.Context, d Device) (*Registration, error) {
	out := &Registration{}
	return out, c.call(ctx, opRegistration, d, out)
}

// Heartbeat sends one.
func (c *Client) Heartbeat(ctx context.Context, h *Heartbeat) error {
	if err := h.check(); err != nil {
		return fmt.Errorf("sending a heartbeat: %w", err)
	}
	return c.call(ctx, opHeartbeat, h, nil)
}

// Deployments asks what a device should do.
func (c *Client) Deployments(ctx context.Context, d Device) (*Deployments, error) {
	out := &Deployments{}
	if err := c.call(ctx, opDeployments, d, out); err != nil {
		return nil, err
	}
	return out, out.check()
}

// ClockError is how far the server's clock is ahead of this host's, as far as it is known.
func (c *Client) ClockError() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead
}

func (c *Client) call(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("calling %s%s: %w", c.endpoint, path, err)
	}
	err = c.once(ctx, path, body, out)
	if said := (*Error)(nil); errors.As(err, &said) && said.Type == "RequestTimeTooSkewed" && c.ClockError() != 0 {
		// As the AWS SDKs do: sign with the server's time, which the answer has.
		err = c.once(ctx, path, body, out)
	}
	if err != nil {
		return fmt.Errorf("calling %s%s: %w", c.endpoint, path, err)
	}
	return nil
}

func (c *Client) once(ctx context.Context, path string, body []byte, out any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if c.credentials != nil {
		credentials, err := c.credentials.Retrieve(ctx)
		if err != nil {
			return fmt.Errorf("getting credentials: %w", err)
		}
		sum := sha256.Sum256(body)
		if err := c.signer.SignHTTP(ctx, credentials, r, hex.EncodeToString(sum[:]), service, c.region, c.now().Add(c.ClockError()).UTC()); err != nil {
			return fmt.Errorf("signing: %w", err)
		}
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxBody+1))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		failed := &Error{Status: answer.StatusCode, Type: answer.Header.Get("X-Amzn-Errortype")}
		var said struct{ Message string }
		if decode(data, &said) == nil {
			failed.Message = said.Message[:min(len(said.Message), maxText)]
		}
		if failed.Type == "RequestTimeTooSkewed" {
			c.learnClock(answer.Header.Get("Date"))
		}
		return failed
	}
	if out == nil {
		return nil
	}
	return decode(data, out)
}

func (c *Client) learnClock(date string) {
	at, err := http.ParseTime(date)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead = at.Sub(c.now()).Round(time.Second)
}
