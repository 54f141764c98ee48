package generate

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/picket-ml/picket/examples/fraud/features"
)

// ID is the id that a simulated transaction has with a client.
func (t *Transaction) ID() string { return "g" + strconv.FormatUint(t.Key, 10) }

// columns are those of a transaction itself, before those of its profile.
var columns = []string{"id", "time", "customer", "terminal", "merchant", "device", "cents", "channel", "merchant_category", "country", "latitude", "longitude", "fraud", "scenario"}

// Writer takes transactions with their profiles.
type Writer interface {
	// Write takes one; the profile is nil where none is wanted, and the caller's again afterwards.
	Write(t *Transaction, profile []float32) error
	// Close writes what is left. It does not close what is written to.
	Close() error
}

// NewCSV writes a header and a line for each transaction; a missing number is empty.
func NewCSV(w io.Writer, withProfile bool) Writer {
	c := &csvFile{to: bufio.NewWriterSize(w, 1<<20)}
	names := columns
	if withProfile {
		names = append(names[:len(names):len(names)], features.Names()...)
	}
	for i, name := range names {
		if i > 0 {
			c.line = append(c.line, ',')
		}
		c.line = append(c.line, name...)
	}
	c.line = append(c.line, '\n')
	return c
}

type csvFile struct {
	to   *bufio.Writer
	line []byte // what is not written yet
}

func (c *csvFile) Write(t *Transaction, profile []float32) error {
	a := t.API(t.ID())
	b := c.line
	b = append(b, a.ID...)
	b = append(b, ',')
	b = a.Time.AppendFormat(b, "2006-01-02T15:04:05.000Z")
	for _, n := range [...]uint32{a.Customer, a.Terminal, a.Merchant, a.Device} {
		b = strconv.AppendUint(append(b, ','), uint64(n), 10)
	}
	b = strconv.AppendInt(append(b, ','), a.Amount, 10)
	b = append(append(b, ','), a.Channel...)
	b = append(append(b, ','), a.Category...)
	b = append(append(b, ','), a.Country...)
	b = strconv.AppendFloat(append(b, ','), a.Latitude, 'f', 6, 64)
	b = strconv.AppendFloat(append(b, ','), a.Longitude, 'f', 6, 64)
	b = append(b, ",0,"...)
	if t.Fraud() {
		b[len(b)-2] = '1'
	}
	b = append(b, t.Scenario.String()...)
	for _, v := range profile {
		b = append(b, ',')
		if v == v { // not NaN
			b = strconv.AppendFloat(b, float64(v), 'g', -1, 32)
		}
	}
	b = append(b, '\n')
	_, err := c.to.Write(b)
	c.line = b[:0]
	return err
}

func (c *csvFile) Close() error {
	if _, err := c.to.Write(c.line); err != nil { // the header of a file without lines
		return err
	}
	return c.to.Flush()
}

// NewParquet writes the same columns in Parquet, with zstd. Its columns are ordered by name; the metadata "features" has the order of a profile.
func NewParquet(w io.Writer, withProfile bool) Writer {
	group := parquet.Group{}
	for _, name := range columns {
		switch name {
		case "id":
			group[name] = parquet.String()
		case "channel", "merchant_category", "country", "scenario":
			group[name] = parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
		case "time":
			group[name] = parquet.Timestamp(parquet.Millisecond)
		case "customer", "terminal", "merchant", "device", "cents":
			group[name] = parquet.Int(64)
		case "fraud":
			group[name] = parquet.Int(32)
		default:
			group[name] = parquet.Leaf(parquet.DoubleType)
		}
	}
	if withProfile {
		for _, name := range features.Names() {
			group[name] = parquet.Leaf(parquet.FloatType)
		}
	}
	schema := parquet.NewSchema("transaction", group)
	p := &parquetFile{to: parquet.NewGenericWriter[any](w, schema, parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}), parquet.MaxRowsPerRowGroup(100_000), parquet.KeyValueMetadata("features", strings.Join(features.Names(), ",")))}
	at := map[string]int{}
	for i, path := range schema.Columns() { // Parquet has its own order
		at[path[0]] = i
	}
	for _, name := range columns {
		p.columns = append(p.columns, at[name])
	}
	if withProfile {
		for _, name := range features.Names() {
			p.profile = append(p.profile, at[name])
		}
	}
	p.row = make(parquet.Row, len(at))
	return p
}

type parquetFile struct {
	to               *parquet.GenericWriter[any]
	columns, profile []int
	row              parquet.Row
}

func (p *parquetFile) Write(t *Transaction, profile []float32) error {
	if len(profile) != len(p.profile) {
		return fmt.Errorf("writing transaction %s: its profile has %d features, and the file has columns for %d", t.ID(), len(profile), len(p.profile))
	}
	a := t.API(t.ID())
	fraud := int32(0)
	if t.Fraud() {
		fraud = 1
	}
	for i, v := range [...]parquet.Value{
		parquet.ByteArrayValue([]byte(a.ID)), parquet.Int64Value(t.At), parquet.Int64Value(int64(a.Customer)), parquet.Int64Value(int64(a.Terminal)),
		parquet.Int64Value(int64(a.Merchant)), parquet.Int64Value(int64(a.Device)), parquet.Int64Value(a.Amount), parquet.ByteArrayValue([]byte(a.Channel)),
		parquet.ByteArrayValue([]byte(a.Category)), parquet.ByteArrayValue([]byte(a.Country)), parquet.DoubleValue(a.Latitude), parquet.DoubleValue(a.Longitude),
		parquet.Int32Value(fraud), parquet.ByteArrayValue([]byte(t.Scenario.String())),
	} {
		p.row[p.columns[i]] = v.Level(0, 0, p.columns[i])
	}
	for i, v := range profile {
		p.row[p.profile[i]] = parquet.FloatValue(v).Level(0, 0, p.profile[i])
	}
	_, err := p.to.WriteRows([]parquet.Row{p.row})
	return err
}

func (p *parquetFile) Close() error { return p.to.Close() }

// Write simulates n transactions and writes them, with their profiles if withProfile: the ground truth of a transaction counts for the profiles of others from features.Delay on. It returns how
// many were frauds.
func Write(s *Simulation, to Writer, n int, withProfile bool) (frauds int, err error) {
	state, profile := features.New(), make([]float32, features.Count)
	if !withProfile {
		profile = nil
	}
	for written := 0; written < n; {
		today := s.Day()
		for i := range today {
			if written == n {
				break
			}
			t := &today[i]
			if withProfile {
				state.Observe(&t.Transaction, profile)
				if t.Fraud() { // known long before it counts
					state.Label(&t.Transaction, true)
				}
			}
			if err := to.Write(t, profile); err != nil {
				return frauds, fmt.Errorf("writing transaction %s of %s: %w", t.ID(), time.UnixMilli(t.At).UTC().Format(time.DateOnly), err)
			}
			written++
			if t.Fraud() {
				frauds++
			}
		}
	}
	return frauds, to.Close()
}
