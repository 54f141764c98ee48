package scoring

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/picket-ml/picket/examples/fraud/store"
)

// Teller tells the daemon outcomes over its oip.sock.
type Teller struct{ client *http.Client }

// NewTeller is for the daemon whose oip.sock is at path. The caller closes it.
func NewTeller(path string) *Teller {
	var dialer net.Dialer
	return &Teller{&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) },
	}}}
}

// outcome is one in the form of the daemon.
type outcome struct {
	ID      string          `json:"id"`
	Outcome json.RawMessage `json:"outcome"`
	Time    time.Time       `json:"time"`
}

// Tell implements application.Teller.
func (t *Teller) Tell(ctx context.Context, version string, outcomes []store.Outcome) error {
	list := make([]outcome, len(outcomes))
	for i, one := range outcomes {
		list[i] = outcome{one.Inference, json.RawMessage(one.JSON), one.At}
	}
	body, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("writing outcomes: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://picket/v2/models/"+(&Model{Version: version}).Served()+"/truth", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("telling outcomes: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := t.client.Do(r)
	if err != nil {
		return fmt.Errorf("telling outcomes: %w", err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if err != nil {
		return fmt.Errorf("telling outcomes: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("telling outcomes: the daemon answers with %s: %s", answer.Status, said)
	}
	return nil
}

// Close ends the connections.
func (t *Teller) Close() { t.client.CloseIdleConnections() }
