package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// One statement stores a batch, transactions and decisions: PostgreSQL plans it once, and a batch costs one round trip and a commit, however many rows it has. A decision that is marked is stored only with its
// transaction, because that is in the same batch and nobody knows yet whether it is new.
const insertBatch = `WITH t AS (
		INSERT INTO transactions (id, server, stored, at, customer, terminal, merchant, device, amount, channel, category, country, latitude, longitude)
		SELECT u.* FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::smallint[], $11::smallint[], $12::text[], $13::integer[], $14::integer[]) AS u
		ON CONFLICT DO NOTHING RETURNING id
	), d AS (
		INSERT INTO decisions (id, verdict, status, score, source, cause, model, reasons, profile, decided, score_us, decide_us, recovered, expires, attempts, inference, refused)
		SELECT u.id, u.verdict, u.status, u.score, u.source, u.cause, u.model, u.reasons, u.profile, u.decided, u.score_us, u.decide_us, u.recovered, u.expires, u.attempts, u.inference, ''
		FROM unnest($15::text[], $16::text[], $17::text[], $18::real[], $19::text[], $20::text[], $21::text[], $22::text[], $23::bytea[], $24::bigint[], $25::bigint[], $26::bigint[], $27::smallint[],
			$28::bigint[], $29::integer[], $30::text[], $31::boolean[]) AS u (id, verdict, status, score, source, cause, model, reasons, profile, decided, score_us, decide_us, recovered, expires, attempts, inference, marked)
		WHERE NOT u.marked OR u.id IN (SELECT id FROM t)
		ON CONFLICT DO NOTHING RETURNING id
	)
	SELECT false, id FROM t UNION ALL SELECT true, id FROM d`

// postgreSQL commits over a pool of its own with a single connection.
type postgreSQL struct {
	reads, pool *pgxpool.Pool
	// The columns of a batch, used again for each.
	t struct {
		id, server, country                                      []string
		stored, at, customer, terminal, merchant, device, amount []int64
		channel, category                                        []int16
		latitude, longitude                                      []int32
	}
	d struct {
		id, verdict, status, source, cause, model, reasons, inference []string
		score                                                         []*float32
		profile                                                       [][]byte
		decided, scoreTook, decideTook, expires                       []int64
		recovered                                                     []int16
		attempts                                                      []int32
		marked                                                        []bool
	}
	// new are the writes of a batch by what they would insert.
	newTransactions, newDecisions map[string]*write
}

// readers is how many connections look-ups and rare writes share.
const readers = 6

func (s *Store) openPostgreSQL(ctx context.Context, o Options) error {
	config, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		return errors.New("the DSN is not one of PostgreSQL: give postgres://user@host/database or key=value pairs") // the cause may repeat a password
	}
	config.MaxConns = readers
	d := &postgreSQL{newTransactions: map[string]*write{}, newDecisions: map[string]*write{}}
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

func (d *postgreSQL) commit(ctx context.Context, batch []*write) error {
	d.transactions(batch)
	d.decisions(batch)
	t, c := &d.t, &d.d
	rows, err := d.pool.Query(ctx, insertBatch, t.id, t.server, t.stored, t.at, t.customer, t.terminal, t.merchant, t.device, t.amount, t.channel, t.category, t.country, t.latitude, t.longitude,
		c.id, c.verdict, c.status, c.score, c.source, c.cause, c.model, c.reasons, c.profile, c.decided, c.scoreTook, c.decideTook, c.recovered, c.expires, c.attempts, c.inference, c.marked)
	if err != nil {
		return err
	}
	defer rows.Close()
	var decision bool
	var id string
	for rows.Next() {
		if err := rows.Scan(&decision, &id); err != nil {
			return err
		}
		inserted := d.newTransactions[id]
		if decision {
			inserted = d.newDecisions[id]
		}
		if inserted == nil {
			return errors.New("a row came back that was not sent")
		}
		inserted.inserted = true
	}
	// The statement is its own transaction. The rows come before its commit, and Close waits for that.
	rows.Close()
	return rows.Err()
}

// transactions makes the columns of a batch's transactions.
func (d *postgreSQL) transactions(batch []*write) {
	t := &d.t
	t.id, t.server, t.country, t.stored, t.at = t.id[:0], t.server[:0], t.country[:0], t.stored[:0], t.at[:0]
	t.customer, t.terminal, t.merchant, t.device, t.amount = t.customer[:0], t.terminal[:0], t.merchant[:0], t.device[:0], t.amount[:0]
	t.channel, t.category, t.latitude, t.longitude = t.channel[:0], t.category[:0], t.latitude[:0], t.longitude[:0]
	clear(d.newTransactions)
	for _, w := range batch {
		one := w.transaction
		if one == nil {
			continue
		}
		w.inserted = false
		if d.newTransactions[w.id] != nil {
			continue // the first of an id counts, in a batch too
		}
		d.newTransactions[w.id] = w
		t.id, t.server, t.stored, t.at, t.amount = append(t.id, w.id), append(t.server, w.server), append(t.stored, w.stored), append(t.at, one.At), append(t.amount, one.Amount)
		t.customer, t.terminal = append(t.customer, int64(one.Customer)), append(t.terminal, int64(one.Terminal))
		t.merchant, t.device = append(t.merchant, int64(one.Merchant)), append(t.device, int64(one.Device))
		t.channel, t.category, t.country = append(t.channel, int16(one.Channel)), append(t.category, int16(one.Category)), append(t.country, string(one.Country[:]))
		t.latitude, t.longitude = append(t.latitude, one.Latitude), append(t.longitude, one.Longitude)
	}
}

// decisions makes the columns of a batch's decisions, of those that may be stored.
func (d *postgreSQL) decisions(batch []*write) {
	c := &d.d
	c.id, c.verdict, c.status, c.source, c.cause, c.model, c.reasons = c.id[:0], c.verdict[:0], c.status[:0], c.source[:0], c.cause[:0], c.model[:0], c.reasons[:0]
	c.score, c.profile, c.decided, c.scoreTook, c.decideTook, c.expires = c.score[:0], c.profile[:0], c.decided[:0], c.scoreTook[:0], c.decideTook[:0], c.expires[:0]
	c.recovered, c.attempts, c.inference, c.marked = c.recovered[:0], c.attempts[:0], c.inference[:0], c.marked[:0]
	clear(d.newDecisions)
	for _, w := range batch {
		if w.decision == nil {
			continue
		}
		w.inserted = false
		// What was committed before this batch is known. A transaction of this batch that is not sent, because another of its id is, will not be new.
		marked := w.first != nil && d.newTransactions[w.id] == w.first
		if d.newDecisions[w.id] != nil || !marked && w.refused() {
			continue
		}
		d.newDecisions[w.id] = w
		one := w.columns()
		c.id, c.verdict, c.status, c.score, c.marked = append(c.id, w.id), append(c.verdict, one.verdict), append(c.status, one.status), append(c.score, one.score), append(c.marked, marked)
		c.source, c.cause, c.model, c.reasons = append(c.source, one.source), append(c.cause, one.cause), append(c.model, one.model), append(c.reasons, w.reasons)
		c.profile, c.decided, c.scoreTook, c.decideTook = append(c.profile, one.profile), append(c.decided, one.decided), append(c.scoreTook, one.scoreTook), append(c.decideTook, one.decideTook)
		c.recovered, c.expires, c.attempts = append(c.recovered, int16(one.recovered)), append(c.expires, one.expires), append(c.attempts, int32(one.attempts))
		c.inference = append(c.inference, w.decision.Inference)
	}
}

func (d *postgreSQL) close() {
	d.pool.Close()
	d.reads.Close()
}
