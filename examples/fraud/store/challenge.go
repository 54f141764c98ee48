package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Attempt takes one of the attempts of a challenge, before its code is looked at: so whoever sends a thousand codes at once has as many attempts as whoever sends one after the other. It is false where there is none to take,
// because the transaction does not wait, any more, or its time is over.
func (s *Store) Attempt(ctx context.Context, id string, now time.Time) (bool, error) {
	return s.changes(ctx, "taking an attempt of "+id, `UPDATE decisions SET attempts = attempts - 1 WHERE id = $1 AND status = 'waiting' AND attempts > 0 AND expires > $2`, id, now.UnixMicro())
}

// factorFailed is told of a transaction that was denied after the last attempt.
const factorFailed = `{"second_factor":"failed"}`

// Refuse records why a code was refused. With the last attempt the transaction is denied.
func (s *Store) Refuse(ctx context.Context, id, why string) error {
	return s.within(ctx, "refusing a code of "+id, func(tx *sql.Tx) error {
		var status string
		err := tx.QueryRowContext(ctx, `UPDATE decisions SET refused = $2, status = CASE WHEN attempts > 0 THEN status ELSE 'denied' END WHERE id = $1 AND status = 'waiting' RETURNING status`, id, why).Scan(&status)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil || status != "denied" {
			return err
		}
		return noteOutcome(ctx, tx, id, ByFactor, factorFailed, time.Now())
	})
}

// Complete approves a transaction whose customer has shown the code of a time step. It is false where the code of that step was used before, by this customer for any transaction.
func (s *Store) Complete(ctx context.Context, id string, customer uint32, step int64) (approved bool, err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return false, fmt.Errorf("completing %s: %w", id, err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it has nothing to do, and after a failure that one counts
	for _, one := range []struct {
		text string
		args []any
	}{
		{`INSERT INTO codes (customer, step) VALUES ($1, $2) ON CONFLICT DO NOTHING`, []any{customer, step}},
		{`UPDATE decisions SET status = 'approved', refused = '' WHERE id = $1 AND status = 'waiting'`, []any{id}},
	} {
		result, err := tx.ExecContext(ctx, one.text, one.args...)
		if err != nil {
			return false, fmt.Errorf("completing %s: %w", id, err)
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return false, err
		}
	}
	if err := noteOutcome(ctx, tx, id, ByFactor, `{"second_factor":"passed"}`, time.Now()); err != nil {
		return false, fmt.Errorf("completing %s: %w", id, err)
	}
	if err := tx.Commit(); err != nil {
		return false, fmt.Errorf("completing %s: %w", id, err)
	}
	return true, nil
}

// Expire denies what waits and whose time is over, and gives the ids.
func (s *Store) Expire(ctx context.Context, now time.Time) ([]string, error) {
	var ids []string
	err := s.within(ctx, "expiring challenges", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `UPDATE decisions SET status = 'denied', refused = 'expired' WHERE status = 'waiting' AND expires <= $1 RETURNING id`, now.UnixMicro())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		for _, id := range ids {
			if err := noteOutcome(ctx, tx, id, ByFactor, `{"second_factor":"expired"}`, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// changes runs a statement about one row and tells whether there was one.
func (s *Store) changes(ctx context.Context, what, statement string, args ...any) (bool, error) {
	result, err := s.db.ExecContext(ctx, statement, args...)
	if err != nil {
		return false, fmt.Errorf("%s: %w", what, err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("%s: %w", what, err)
	}
	return n == 1, nil
}

// Analyst is who may look at decisions. Hash is PBKDF2's.
type Analyst struct {
	Name       string
	Salt, Hash []byte
	Iterations int
}

// SetAnalyst adds an analyst, or gives one another password.
func (s *Store) SetAnalyst(ctx context.Context, a Analyst) error {
	_, err := s.changes(ctx, "storing the analyst "+a.Name, `INSERT INTO analysts (name, salt, iterations, hash) VALUES ($1, $2, $3, $4)
		ON CONFLICT (name) DO UPDATE SET salt = excluded.salt, iterations = excluded.iterations, hash = excluded.hash`, a.Name, a.Salt, a.Iterations, a.Hash)
	return err
}

// Analyst is the analyst of a name, or ErrNotFound.
func (s *Store) Analyst(ctx context.Context, name string) (Analyst, error) {
	a := Analyst{Name: name}
	err := s.db.QueryRowContext(ctx, `SELECT salt, iterations, hash FROM analysts WHERE name = $1`, name).Scan(&a.Salt, &a.Iterations, &a.Hash)
	if errors.Is(err, sql.ErrNoRows) {
		return a, ErrNotFound
	}
	if err != nil {
		return a, fmt.Errorf("reading an analyst: %w", err)
	}
	return a, nil
}

// Session is an analyst's. Digest is of what the cookie says.
type Session struct {
	Digest        []byte
	Analyst, CSRF string
	Used, Expires time.Time
}

// AddSession stores a session, and forgets those that are over.
func (s *Store) AddSession(ctx context.Context, one Session) error {
	if _, err := s.changes(ctx, "forgetting old sessions", `DELETE FROM sessions WHERE expires < $1`, time.Now().UnixMicro()); err != nil {
		return err
	}
	_, err := s.changes(ctx, "storing a session", `INSERT INTO sessions (digest, analyst, csrf, used, expires) VALUES ($1, $2, $3, $4, $5)`, one.Digest, one.Analyst, one.CSRF, one.Used.UnixMicro(), one.Expires.UnixMicro())
	return err
}

// Session is the session with a digest, or ErrNotFound. Whether it is over is for the caller to say.
func (s *Store) Session(ctx context.Context, digest []byte) (Session, error) {
	one := Session{Digest: digest}
	var used, expires int64
	err := s.db.QueryRowContext(ctx, `SELECT analyst, csrf, used, expires FROM sessions WHERE digest = $1`, digest).Scan(&one.Analyst, &one.CSRF, &used, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return one, ErrNotFound
	}
	if err != nil {
		return one, fmt.Errorf("reading a session: %w", err)
	}
	one.Used, one.Expires = time.UnixMicro(used), time.UnixMicro(expires)
	return one, nil
}

// UseSession records that a session was used.
func (s *Store) UseSession(ctx context.Context, digest []byte, now time.Time) error {
	_, err := s.changes(ctx, "using a session", `UPDATE sessions SET used = $2 WHERE digest = $1`, digest, now.UnixMicro())
	return err
}

// EndSession forgets a session.
func (s *Store) EndSession(ctx context.Context, digest []byte) error {
	_, err := s.changes(ctx, "ending a session", `DELETE FROM sessions WHERE digest = $1`, digest)
	return err
}
