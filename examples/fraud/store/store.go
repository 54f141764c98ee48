// Package store keeps transactions, decisions, ground truth and sessions in PostgreSQL or in SQLite. All statements but those of a commit are the same for both.
//
// The crash argument. A transaction is a row of one table and its decision a row of another; both have the transaction's id as primary key, and neither is ever
// replaced by another insert. So whichever process inserts first has decided, and all others, and all retries, read what it decided. Whoever answers a client has
// seen the commit of the decision. A transaction without a decision can only be one that nobody was answered about: History finds it at the next start.
//
// Commits are shared: a goroutine takes whatever waits and commits it at once, so that a disk which writes 200 times a second stores thousands of transactions. What a
// transaction and its decision cost is mostly one commit, because the decision is there before the commit before theirs has ended.
package store

import (
	"context"
	"database/sql"
	"embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/features"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrNotFound is what look-ups answer to that find nothing.
var ErrNotFound = errors.New("there is none")

// Record is all there is about a transaction.
type Record struct {
	ID          string
	Transaction features.Transaction
	Stored      time.Time
	// Imported says that it came with the history and was decided elsewhere.
	Imported bool
	// Decision is nil as long as there is none.
	Decision *Decision
	// Truth is nil as long as it is not known.
	Truth *Truth
}

// Decision is a decision as it is stored.
type Decision struct {
	api.Decision
	// Profile is what was scored.
	Profile []float32
}

// Truth is the ground truth.
type Truth struct {
	Fraud   bool
	At      time.Time
	Analyst string
}

// Entry is the record in the form of clients.
func (r *Record) Entry() api.Entry {
	e := api.Entry{Transaction: r.Transaction.API(r.ID)}
	if r.Decision != nil {
		e.Decision = r.Decision.Decision
	}
	if r.Truth != nil {
		e.Fraud = &r.Truth.Fraud
	}
	return e
}

// database is what differs between the two.
type database interface {
	// commit stores a batch durably, or nothing of it, and fills in what became of each write.
	commit(ctx context.Context, batch []*write) error
	close()
}

// Store is an open database. Any number of goroutines may use it.
type Store struct {
	name   string
	server string
	db     *sql.DB // reads, and writes that are rare
	hot    database
	writer *writer
}

// Options say which database.
type Options struct {
	// DSN is PostgreSQL's: postgres://user@host/database, or key=value pairs. Empty for SQLite.
	DSN string
	// Path is SQLite's file. Its folder must be there.
	Path string
	// Server is the name of this process among those that share the database: "a" where it is empty.
	Server string
	// Queue is how many transactions may wait for a commit. 4096 where it is 0.
	Queue int
}

// Open opens the database and brings its tables up to date. The caller closes it.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Server == "" {
		o.Server = "a"
	}
	if o.Server == imported {
		return nil, fmt.Errorf("opening the database: a server cannot be called %q, which is what the transactions of an import have for their server", imported)
	}
	if o.Queue == 0 {
		o.Queue = 4096
	}
	s := &Store{server: o.Server}
	open, dialect := s.openSQLite, goose.DialectSQLite3
	s.name = "sqlite"
	if o.DSN != "" {
		open, dialect, s.name = s.openPostgreSQL, goose.DialectPostgres, "postgresql"
	}
	if err := open(ctx, o); err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	if err := s.migrate(ctx, o, dialect); err != nil {
		return nil, errors.Join(err, s.shut())
	}
	s.writer = newWriter(s.hot, o.Queue)
	return s, nil
}

// migrate is goose's. Two processes that start at once take turns: on PostgreSQL's advisory lock, or on a file beside SQLite's.
func (s *Store) migrate(ctx context.Context, o Options, dialect goose.Dialect) error {
	if dialect == goose.DialectSQLite3 {
		unlock, err := lockFile(o.Path + ".lock")
		if err != nil {
			return fmt.Errorf("waiting for another process to bring the database's tables up to date: %w", err)
		}
		defer unlock()
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	options, err := lockFor(dialect)
	if err != nil {
		return fmt.Errorf("preparing the migrations: %w", err)
	}
	provider, err := goose.NewProvider(dialect, s.db, files, options...)
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("bringing the database's tables up to date: %w", err)
	}
	return nil
}

// Name is "postgresql" or "sqlite".
func (s *Store) Name() string { return s.name }

// Close stores what waits and closes the database.
func (s *Store) Close() error {
	s.writer.close()
	return s.shut()
}

func (s *Store) shut() error {
	s.hot.close()
	return s.db.Close()
}

// Ping tells whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.db.PingContext(ctx) }

const recordColumns = `t.id, t.server, t.stored, t.at, t.customer, t.terminal, t.merchant, t.device, t.amount, t.channel, t.category, t.country, t.latitude, t.longitude,
	d.verdict, d.status, d.score, d.source, d.cause, d.model, d.reasons, d.profile, d.decided, d.score_us, d.decide_us, d.recovered, d.expires, d.attempts, d.refused, d.inference,
	f.fraud, f.at, f.analyst`

// Find is the record of an id, or ErrNotFound.
func (s *Store) Find(ctx context.Context, id string) (*Record, error) {
	row := s.db.QueryRowContext(ctx, `SELECT `+recordColumns+`
		FROM transactions t LEFT JOIN decisions d ON d.id = t.id LEFT JOIN truths f ON f.id = t.id WHERE t.id = $1`, id)
	r, err := scan(row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading transaction %s: %w", id, err)
	}
	return r, nil
}

// scan reads recordColumns.
func scan(into func(...any) error) (*Record, error) {
	var (
		r                                                            Record
		stored                                                       int64
		server, country                                              string
		verdict, status, source, cause, model, reasons, refused      sql.NullString
		inference                                                    sql.NullString
		score                                                        sql.NullFloat64
		profile                                                      []byte
		decided, scoreTook, decideTook, recovered, expires, attempts sql.NullInt64
		fraud, labelled                                              sql.NullInt64
		analyst                                                      sql.NullString
	)
	t := &r.Transaction
	if err := into(&r.ID, &server, &stored, &t.At, &t.Customer, &t.Terminal, &t.Merchant, &t.Device, &t.Amount, &t.Channel, &t.Category, &country, &t.Latitude, &t.Longitude,
		&verdict, &status, &score, &source, &cause, &model, &reasons, &profile, &decided, &scoreTook, &decideTook, &recovered, &expires, &attempts, &refused, &inference,
		&fraud, &labelled, &analyst); err != nil {
		return nil, err
	}
	t.Key = features.Key(r.ID)
	copy(t.Country[:], country)
	r.Stored, r.Imported = time.UnixMicro(stored).UTC(), server == imported
	if verdict.Valid {
		d := &Decision{Decision: api.Decision{
			Transaction: r.ID, Verdict: api.Verdict(verdict.String), Status: api.Status(status.String), Source: api.Source(source.String), Cause: cause.String, Model: model.String, Inference: inference.String,
			Decided: time.UnixMicro(decided.Int64).UTC(), ScoreMicroseconds: scoreTook.Int64, Microseconds: decideTook.Int64, Recovered: recovered.Int64 != 0,
		}}
		if score.Valid {
			value := float32(score.Float64)
			d.Score = &value
		}
		if d.Verdict == api.Challenge {
			d.Factor = &api.Factor{Expires: time.UnixMicro(expires.Int64).UTC(), Attempts: int(attempts.Int64), Refused: refused.String}
		}
		if err := json.Unmarshal([]byte(reasons.String), &d.Reasons); err != nil {
			return nil, fmt.Errorf("reading the reasons of %s: %w", r.ID, err)
		}
		d.Profile = decodeProfile(profile)
		r.Decision = d
	}
	if fraud.Valid {
		r.Truth = &Truth{Fraud: fraud.Int64 != 0, At: time.UnixMicro(labelled.Int64).UTC(), Analyst: analyst.String}
	}
	return &r, nil
}

// Query is which decisions List gives: newest first, those before a place in the list.
type Query struct {
	Before  string // what List gave as next, or empty
	Verdict api.Verdict
	Limit   int
}

// List gives records that are decided, and the value of Before for those after them, empty at the end.
func (s *Store) List(ctx context.Context, q Query) ([]*Record, string, error) {
	decided, id := int64(math.MaxInt64), ""
	if q.Before != "" {
		var ok bool
		if decided, id, ok = parsePlace(q.Before); !ok {
			return nil, "", fmt.Errorf("listing decisions: %q is not what an earlier list gave as before", q.Before)
		}
	}
	rows, err := s.db.QueryContext(ctx, `SELECT `+recordColumns+`
		FROM decisions d JOIN transactions t ON t.id = d.id LEFT JOIN truths f ON f.id = d.id
		WHERE (d.decided, d.id) < ($1, $2) AND ($3 = '' OR d.verdict = $3) ORDER BY d.decided DESC, d.id DESC LIMIT $4`, decided, id, string(q.Verdict), q.Limit)
	if err != nil {
		return nil, "", fmt.Errorf("listing decisions: %w", err)
	}
	defer rows.Close()
	var list []*Record
	for rows.Next() {
		r, err := scan(rows.Scan)
		if err != nil {
			return nil, "", fmt.Errorf("listing decisions: %w", err)
		}
		list = append(list, r)
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("listing decisions: %w", err)
	}
	if len(list) < q.Limit {
		return list, "", nil
	}
	last := list[len(list)-1]
	return list, fmt.Sprintf("%d.%s", last.Decision.Decided.UnixMicro(), last.ID), nil
}

func parsePlace(s string) (decided int64, id string, ok bool) {
	number, id, found := strings.Cut(s, ".")
	if !found || id == "" {
		return 0, "", false
	}
	if _, err := fmt.Sscanf(number, "%d", &decided); err != nil || len(number) > 18 {
		return 0, "", false
	}
	return decided, id, true
}

// Past is one transaction of the history.
type Past struct {
	ID          string
	Server      string
	Stored      int64 // microseconds
	Transaction features.Transaction
	// Decided is true of what was imported, too: nobody waits for a decision about it.
	Decided bool
	Fraud   bool
}

// History gives each transaction whose own time is not before since, and that was stored after a time, in the order of arrival.
func (s *Store) History(ctx context.Context, since, storedAfter time.Time, each func(*Past) error) error {
	rows, err := s.db.QueryContext(ctx, `SELECT t.id, t.server, t.stored, t.at, t.customer, t.terminal, t.merchant, t.device, t.amount, t.channel, t.category, t.country, t.latitude, t.longitude,
		CASE WHEN d.id IS NULL AND t.server <> $3 THEN 0 ELSE 1 END, COALESCE(f.fraud, 0)
		FROM transactions t LEFT JOIN decisions d ON d.id = t.id LEFT JOIN truths f ON f.id = t.id
		WHERE t.at >= $1 AND t.stored > $2 ORDER BY t.stored`, since.UnixMilli(), storedAfter.UnixMicro(), imported)
	if err != nil {
		return fmt.Errorf("reading history: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var p Past
		var country string
		var decided, fraud int
		t := &p.Transaction
		if err := rows.Scan(&p.ID, &p.Server, &p.Stored, &t.At, &t.Customer, &t.Terminal, &t.Merchant, &t.Device, &t.Amount, &t.Channel, &t.Category, &country, &t.Latitude, &t.Longitude, &decided, &fraud); err != nil {
			return fmt.Errorf("reading history: %w", err)
		}
		t.Key = features.Key(p.ID)
		copy(t.Country[:], country)
		p.Decided, p.Fraud = decided != 0, fraud != 0
		if err := each(&p); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading history: %w", err)
	}
	return nil
}

// SetTruth records the ground truth of a transaction, over an earlier one, and that Picket is to be told.
func (s *Store) SetTruth(ctx context.Context, id string, t Truth) error {
	return s.within(ctx, "recording the ground truth of "+id, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO truths (id, fraud, at, analyst) VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO UPDATE SET fraud = excluded.fraud, at = excluded.at, analyst = excluded.analyst`, id, number(t.Fraud), t.At.UnixMicro(), t.Analyst)
		if err != nil {
			return err
		}
		return noteOutcome(ctx, tx, id, ByAnalyst, fmt.Sprintf(`{"fraud":%t,"by":"analyst"}`, t.Fraud), t.At)
	})
}

// Last is when the newest transaction happened by its own time, and when the last was stored. Both are zero in an empty database.
func (s *Store) Last(ctx context.Context) (at, stored time.Time, err error) {
	var ms, us sql.NullInt64
	if err := s.db.QueryRowContext(ctx, `SELECT at, stored FROM transactions ORDER BY stored DESC LIMIT 1`).Scan(&ms, &us); errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, time.Time{}, nil
	} else if err != nil {
		return time.Time{}, time.Time{}, fmt.Errorf("reading the last transaction: %w", err)
	}
	return time.UnixMilli(ms.Int64).UTC(), time.UnixMicro(us.Int64).UTC(), nil
}

// Counts are how many transactions and decisions there are.
func (s *Store) Counts(ctx context.Context) (transactions, decisions int64, err error) {
	if err := s.db.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM transactions), (SELECT COUNT(*) FROM decisions)`).Scan(&transactions, &decisions); err != nil {
		return 0, 0, fmt.Errorf("counting transactions: %w", err)
	}
	return transactions, decisions, nil
}

func encodeProfile(profile []float32) []byte {
	b := make([]byte, 0, 4*len(profile))
	for _, v := range profile {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func decodeProfile(b []byte) []float32 {
	profile := make([]float32, len(b)/4)
	for i := range profile {
		profile[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return profile
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// IsPlace tells whether List takes a value as Before.
func IsPlace(before string) bool {
	_, _, ok := parsePlace(before)
	return before == "" || ok
}
