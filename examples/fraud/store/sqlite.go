package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

const (
	insertTransaction = `INSERT INTO transactions (id, server, stored, at, customer, terminal, merchant, device, amount, channel, category, country, latitude, longitude)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING`
	insertDecision = `INSERT INTO decisions (id, verdict, status, score, source, cause, model, reasons, profile, decided, score_us, decide_us, recovered, expires, attempts, refused, inference)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, '', $16) ON CONFLICT DO NOTHING`
)

// sqlite writes over one connection of its own, since a file has one writer.
type sqlite struct {
	db                    *sql.DB
	conn                  *sql.Conn
	transaction, decision *sql.Stmt
}

// openSQLite opens the file, as durable as PostgreSQL is by default: a commit is on the disk.
func (s *Store) openSQLite(ctx context.Context, o Options) (err error) {
	if o.Path == "" {
		return errors.New("neither a DSN nor a file was given")
	}
	name := "file:" + (&url.URL{Path: o.Path}).EscapedPath() + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)&_pragma=cache_size(-32768)&_txlock=immediate"
	if s.db, err = sql.Open("sqlite", name); err != nil {
		return err
	}
	s.db.SetMaxOpenConns(2 + runtime.GOMAXPROCS(0))
	s.db.SetMaxIdleConns(2 + runtime.GOMAXPROCS(0))
	if err := s.db.PingContext(ctx); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", o.Path, err), s.db.Close())
	}
	s.hot = &sqlite{db: s.db}
	return nil
}

// prepare is done at the first commit, when the tables are there.
func (d *sqlite) prepare(ctx context.Context) (err error) {
	if d.decision != nil {
		return nil
	}
	if d.conn == nil {
		if d.conn, err = d.db.Conn(ctx); err != nil {
			return err
		}
	}
	if d.transaction, err = d.conn.PrepareContext(ctx, insertTransaction); err != nil {
		return err
	}
	d.decision, err = d.conn.PrepareContext(ctx, insertDecision)
	return err
}

func (d *sqlite) commit(ctx context.Context, batch []*write) error {
	if err := d.prepare(ctx); err != nil {
		return err
	}
	tx, err := d.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it has nothing to do, and after a failure that one counts
	transaction, decision := tx.StmtContext(ctx, d.transaction), tx.StmtContext(ctx, d.decision)
	for _, w := range batch {
		var result sql.Result
		if t := w.transaction; t != nil {
			result, err = transaction.ExecContext(ctx, w.id, w.server, w.stored, t.At, t.Customer, t.Terminal, t.Merchant, t.Device, t.Amount, t.Channel, t.Category, string(t.Country[:]), t.Latitude, t.Longitude)
		} else {
			if w.refused() {
				continue
			}
			c := w.columns()
			result, err = decision.ExecContext(ctx, w.id, c.verdict, c.status, c.score, c.source, c.cause, c.model, w.reasons, c.profile, c.decided, c.scoreTook, c.decideTook, c.recovered, c.expires, c.attempts, w.decision.Inference)
		}
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return err
		}
		w.inserted = n == 1
	}
	return tx.Commit()
}

func (d *sqlite) close() {
	if d.conn != nil {
		_ = d.conn.Close() // and with it its statements; what was committed is on the disk
	}
}

// columns is a decision as a row.
type columns struct {
	verdict, status, source, cause, model   string
	score                                   *float32
	profile                                 []byte
	decided, scoreTook, decideTook, expires int64
	recovered, attempts                     int
}

func (w *write) columns() columns {
	d := w.decision
	c := columns{
		verdict: string(d.Verdict), status: string(d.Status), source: string(d.Source), cause: d.Cause, model: d.Model, score: d.Score, profile: encodeProfile(d.Profile),
		decided: d.Decided.UnixMicro(), scoreTook: d.ScoreMicroseconds, decideTook: d.Microseconds, recovered: number(d.Recovered),
	}
	if d.Factor != nil {
		c.expires, c.attempts = d.Factor.Expires.UnixMicro(), d.Factor.Attempts
	}
	return c
}

// lockFile waits for a file's lock and gives what releases it. The file stays: whoever removed it would let two processes hold a lock of one name.
func lockFile(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { _ = file.Close() }, nil // nothing was written
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(err, file.Close())
		}
	}
}

// lockFor keeps two servers from migrating PostgreSQL's tables at once.
func lockFor(dialect goose.Dialect) ([]goose.ProviderOption, error) {
	if dialect != goose.DialectPostgres {
		return nil, nil
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 120), lock.WithUnlockTimeout(1, 30)) // seconds, and how often
	if err != nil {
		return nil, err
	}
	return []goose.ProviderOption{goose.WithSessionLocker(locker)}, nil
}
