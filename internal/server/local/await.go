package local

import (
	"context"
	"time"
)

// awaitInterval is how often Await asks.
const awaitInterval = 5 * time.Millisecond

// Await returns when done says so, or when ctx ends. It is for what happens once in the
// life of a server, where being told would cost every connection.
func Await(ctx context.Context, done func() bool) {
	ticker := time.NewTicker(awaitInterval)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
