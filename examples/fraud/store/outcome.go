package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// The kinds of outcomes.
const (
	ByAnalyst = "fraud"  // the ground truth: a chargeback, or that there was none
	ByFactor  = "factor" // what the customer made of the challenge
)

// Outcome is what became of a transaction whose score Picket gave, until Picket was told.
type Outcome struct {
	ID, Kind  string
	Model     string // the version that scored
	Inference string
	// JSON is what is told.
	JSON string
	At   time.Time
}

// noteOutcome keeps an outcome of a transaction, in the place of an earlier one of its kind, unless rules decided about it. It is part of what changed the row, so that no crash comes between.
func noteOutcome(ctx context.Context, tx *sql.Tx, id, kind, outcome string, at time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO outcomes (id, kind, model, inference, outcome, at)
		SELECT d.id, $2, d.model, d.inference, $3, $4 FROM decisions d WHERE d.id = $1 AND d.inference <> ''
		ON CONFLICT (id, kind) DO UPDATE SET outcome = excluded.outcome, at = excluded.at`, id, kind, outcome, at.UnixMicro())
	return err
}

// Outcomes are those that Picket has not been told, the oldest first.
func (s *Store) Outcomes(ctx context.Context, limit int) ([]Outcome, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id, kind, model, inference, outcome, at FROM outcomes ORDER BY at LIMIT $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("reading outcomes: %w", err)
	}
	defer rows.Close()
	var list []Outcome
	for rows.Next() {
		var one Outcome
		var at int64
		if err := rows.Scan(&one.ID, &one.Kind, &one.Model, &one.Inference, &one.JSON, &at); err != nil {
			return nil, fmt.Errorf("reading outcomes: %w", err)
		}
		one.At = time.UnixMicro(at).UTC()
		list = append(list, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading outcomes: %w", err)
	}
	return list, nil
}

// Told forgets outcomes that Picket has been told. One that changed meanwhile stays, to be told again.
func (s *Store) Told(ctx context.Context, list []Outcome) error {
	return s.within(ctx, "forgetting outcomes", func(tx *sql.Tx) error {
		for _, one := range list {
			if _, err := tx.ExecContext(ctx, `DELETE FROM outcomes WHERE id = $1 AND kind = $2 AND at = $3`, one.ID, one.Kind, one.At.UnixMicro()); err != nil {
				return err
			}
		}
		return nil
	})
}

// ForgetOutcomes gives up on those that are older, and tells how many.
func (s *Store) ForgetOutcomes(ctx context.Context, before time.Time) (int64, error) {
	result, err := s.db.ExecContext(ctx, `DELETE FROM outcomes WHERE at < $1`, before.UnixMicro())
	if err != nil {
		return 0, fmt.Errorf("forgetting outcomes: %w", err)
	}
	return result.RowsAffected()
}

// within does something in one transaction of the database.
func (s *Store) within(ctx context.Context, what string, do func(tx *sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it has nothing to do, and after a failure that one counts
	if err := do(tx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
