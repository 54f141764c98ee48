package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// One statement stores all rows of a batch: PostgreSQL plans it once, and a batch costs two round trips and a commit, however many rows it has.
const (
	insertTransactions = `INSERT INTO transactions (id, server, stored, at, customer, terminal, merchant, device, amount, channel, category, country, latitude, longitude)
		SELECT u.id, $1, u.stored, u.at, u.customer, u.terminal, u.merchant, u.device, u.amount, u.channel, u.category, u.country, u.latitude, u.longitude
		FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::smallint[], $11::smallint[], $12::text[], $13::integer[], $14::integer[])
		AS u (id, stored, at, customer, terminal, merchant, device, amount, channel, category, country, latitude, longitude)
		ON CONFLICT DO NOTHING RETURNING id`
	insertDecisions = `INSERT INTO decisions (id, verdict, status, score, source, cause, model, reasons, profile, decided, score_us, decide_us, recovered, expires, attempts, inference, refused)
		SELECT u.*, '' FROM unnest($1::text[], $2::text[], $3::text[], $4::real[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bytea[], $10::bigint[], $11::bigint[], $12::bigint[], $13::smallint[],
			$14::bigint[], $15::integer[], $16::text[]) AS u
		ON CONFLICT DO NOTHING RETURNING id`
)

// postgreSQL commits over a pool of its own with a single connection.
type postgreSQL struct {
	reads, pool *pgxpool.Pool
	// The columns of a batch, used again for each.
	t struct {
		id, country                                              []string
		stored, at, customer, terminal, merchant, device, amount []int64
		channel, category                                        []int16
		latitude, longitude                                      []int32
		writes                                                   []*write
	}
	d struct {
		id, verdict, status, source, cause, model, reasons, inference []string
		score                                                         []*float32
		profile                                                       [][]byte
		decided, scoreTook, decideTook, expires                       []int64
		recovered                                                     []int16
		attempts                                                      []int32
		writes                                                        []*write
	}
}

// readers is how many connections look-ups and rare writes share.
const readers = 6

func (s *Store) openPostgreSQL(ctx context.Context, o Options) error {
	config, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		return errors.New("the DSN is not one of PostgreSQL: give postgres://user@host/database or key=value pairs") // the cause may repeat a password
	}
	config.MaxConns = readers
	d := &postgreSQL{}
	if d.reads, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	if err := d.reads.Ping(ctx); err != nil {
		d.reads.Close()
		return err
	}
	writes := config.Copy()
	writes.MaxConns = 1
	if d.pool, err = pgxpool.NewWithConfig(ctx, writes); err != nil {
		d.reads.Close()
		return err
	}
	s.db, s.hot = stdlib.OpenDBFromPool(d.reads), d
	return nil
}

func (d *postgreSQL) commit(ctx context.Context, server string, batch []*write) error {
	return pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if err := d.transactions(ctx, tx, server, batch); err != nil {
			return err
		}
		return d.decisions(ctx, tx, batch)
	})
}

func (d *postgreSQL) transactions(ctx context.Context, tx pgx.Tx, server string, batch []*write) error {
	t := &d.t
	t.id, t.country, t.stored, t.at, t.customer, t.terminal, t.merchant, t.device, t.amount = t.id[:0], t.country[:0], t.stored[:0], t.at[:0], t.customer[:0], t.terminal[:0], t.merchant[:0], t.device[:0], t.amount[:0]
	t.channel, t.category, t.latitude, t.longitude, t.writes = t.channel[:0], t.category[:0], t.latitude[:0], t.longitude[:0], t.writes[:0]
	for _, w := range batch {
		one := w.transaction
		if one == nil {
			continue
		}
		w.inserted = false
		t.writes = append(t.writes, w)
		t.id, t.stored, t.at, t.amount = append(t.id, w.id), append(t.stored, w.stored), append(t.at, one.At), append(t.amount, one.Amount)
		t.customer, t.terminal = append(t.customer, int64(one.Customer)), append(t.terminal, int64(one.Terminal))
		t.merchant, t.device = append(t.merchant, int64(one.Merchant)), append(t.device, int64(one.Device))
		t.channel, t.category, t.country = append(t.channel, int16(one.Channel)), append(t.category, int16(one.Category)), append(t.country, string(one.Country[:]))
		t.latitude, t.longitude = append(t.latitude, one.Latitude), append(t.longitude, one.Longitude)
	}
	if len(t.writes) == 0 {
		return nil
	}
	return insert(ctx, tx, t.writes, insertTransactions, server, t.id, t.stored, t.at, t.customer, t.terminal, t.merchant, t.device, t.amount, t.channel, t.category, t.country, t.latitude, t.longitude)
}

func (d *postgreSQL) decisions(ctx context.Context, tx pgx.Tx, batch []*write) error {
	c := &d.d
	c.id, c.verdict, c.status, c.source, c.cause, c.model, c.reasons = c.id[:0], c.verdict[:0], c.status[:0], c.source[:0], c.cause[:0], c.model[:0], c.reasons[:0]
	c.score, c.profile, c.decided, c.scoreTook, c.decideTook, c.expires = c.score[:0], c.profile[:0], c.decided[:0], c.scoreTook[:0], c.decideTook[:0], c.expires[:0]
	c.recovered, c.attempts, c.inference, c.writes = c.recovered[:0], c.attempts[:0], c.inference[:0], c.writes[:0]
	for _, w := range batch {
		if w.decision == nil {
			continue
		}
		w.inserted = false
		if w.refused() {
			continue
		}
		one := w.columns()
		c.writes = append(c.writes, w)
		c.id, c.verdict, c.status, c.score = append(c.id, w.id), append(c.verdict, one.verdict), append(c.status, one.status), append(c.score, one.score)
		c.source, c.cause, c.model, c.reasons = append(c.source, one.source), append(c.cause, one.cause), append(c.model, one.model), append(c.reasons, w.reasons)
		c.profile, c.decided, c.scoreTook, c.decideTook = append(c.profile, one.profile), append(c.decided, one.decided), append(c.scoreTook, one.scoreTook), append(c.decideTook, one.decideTook)
		c.recovered, c.expires, c.attempts = append(c.recovered, int16(one.recovered)), append(c.expires, one.expires), append(c.attempts, int32(one.attempts))
		c.inference = append(c.inference, w.decision.Inference)
	}
	if len(c.writes) == 0 {
		return nil
	}
	return insert(ctx, tx, c.writes, insertDecisions, c.id, c.verdict, c.status, c.score, c.source, c.cause, c.model, c.reasons, c.profile, c.decided, c.scoreTook, c.decideTook, c.recovered, c.expires, c.attempts, c.inference)
}

// insert runs a statement that returns the ids it has inserted, which come in the order of writes; what is missing among them was there before.
func insert(ctx context.Context, tx pgx.Tx, writes []*write, statement string, arguments ...any) error {
	rows, err := tx.Query(ctx, statement, arguments...)
	if err != nil {
		return err
	}
	defer rows.Close()
	next := 0
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		for next < len(writes) && writes[next].id != id {
			next++
		}
		if next == len(writes) {
			return errors.New("the rows came back in another order than they went")
		}
		writes[next].inserted = true
		next++
	}
	return rows.Err()
}

func (d *postgreSQL) close() {
	d.pool.Close()
	d.reads.Close()
}
