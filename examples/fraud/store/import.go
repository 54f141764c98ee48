package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// imported is the server of transactions that came with the history.
const imported = "import"

// Import stores transactions of the past that were decided elsewhere, so that profiles begin with them, and the ground truth of those that were frauds. It says how many are new; what is there already
// stays as it is, so that an import that was interrupted is begun again. Of each Past the ID, the Transaction and Fraud count. A server that runs sees them at its next start.
func (s *Store) Import(ctx context.Context, list []Past) (fresh int, err error) {
	writes := make([]*write, 0, len(list))
	for i := range list {
		w := &write{id: list[i].ID, server: imported, transaction: &list[i].Transaction, done: make(chan struct{})}
		for err = s.writer.add(w, s.writer.limit); errors.Is(err, ErrBusy); err = s.writer.add(w, s.writer.limit) {
			if err := s.settle(ctx, writes); err != nil {
				return 0, fmt.Errorf("importing: %w", err)
			}
		}
		if err != nil {
			return 0, fmt.Errorf("importing: %w", err)
		}
		writes = append(writes, w)
	}
	for _, w := range writes {
		inserted, err := Write{w}.Wait(ctx)
		if err != nil {
			return 0, fmt.Errorf("importing: %w", err)
		}
		if inserted {
			fresh++
		}
	}
	return fresh, s.within(ctx, "importing the ground truth", func(tx *sql.Tx) error {
		for i := range list {
			if !list[i].Fraud {
				continue
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO truths (id, fraud, at, analyst) VALUES ($1, 1, $2, $3) ON CONFLICT DO NOTHING`, list[i].ID, time.Now().UnixMicro(), imported); err != nil {
				return err
			}
		}
		return nil
	})
}

// settle waits until there is room: for the last of the writes, or for another's where none is ours.
func (s *Store) settle(ctx context.Context, writes []*write) error {
	if n := len(writes); n > 0 {
		_, err := Write{writes[n-1]}.Wait(ctx)
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Millisecond):
		return nil
	}
}
