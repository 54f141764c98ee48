package load

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/generate"
)

// Stream sends a simulation's transactions at a steady rate: what a page shows that somebody tries out. A transaction that has no decision yet is sent again, under its id, until it has.
type Stream struct {
	URL, Key string
	TLS      *tls.Config
	Rate     float64 // a second
	Clients  int     // transactions under way, at most
}

// Run sends until ctx ends.
func (s *Stream) Run(ctx context.Context, simulation *generate.Simulation) error {
	if s.Rate <= 0 || s.Clients < 1 {
		return fmt.Errorf("streaming: %v transactions a second with %d clients cannot be", s.Rate, s.Clients)
	}
	transport := &http.Transport{TLSClientConfig: s.TLS, MaxIdleConnsPerHost: s.Clients, MaxConnsPerHost: s.Clients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	prefix := fmt.Sprintf("s%x-", rand.Uint64())
	todo := make(chan []byte)
	var group sync.WaitGroup
	for range s.Clients {
		group.Go(func() {
			for body := range todo {
				s.insist(ctx, client, body)
			}
		})
	}
	defer group.Wait()
	defer close(todo)
	every := time.NewTicker(time.Duration(float64(time.Second) / s.Rate))
	defer every.Stop()
	for {
		today := simulation.Day()
		for i := range today {
			body, err := json.Marshal(today[i].API(prefix + today[i].ID()))
			if err != nil {
				return fmt.Errorf("writing a transaction: %w", err)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-every.C:
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case todo <- body:
			}
		}
	}
}

// insist sends a transaction until it is decided, or refused for what it is.
func (s *Stream) insist(ctx context.Context, client *http.Client, body []byte) {
	for pause := 50 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 2*time.Second) {
		status, _, _, err := Post(ctx, client, s.URL+api.PathTransactions, s.Key, body)
		if err == nil && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}
