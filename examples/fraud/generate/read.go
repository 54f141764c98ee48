package generate

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/features"
)

// ReadCSV reads transactions in the form of NewCSV, which may be anybody's: the columns in any order, others beside them, and "fraud" only where the ground truth is known. It ends at the first line that is no
// transaction. What each returns ends it too.
func ReadCSV(r io.Reader, each func(id string, t features.Transaction, fraud bool) error) error {
	lines := csv.NewReader(r)
	lines.ReuseRecord = true
	head, err := lines.Read()
	if errors.Is(err, io.EOF) {
		return errors.New("reading transactions: the file is empty, and should begin with the names of its columns")
	}
	if err != nil {
		return fmt.Errorf("reading transactions: %w", err)
	}
	at := map[string]int{}
	for _, name := range columns {
		at[name] = slices.Index(head, name)
		if at[name] < 0 && name != "fraud" && name != "scenario" {
			return fmt.Errorf("reading transactions: there is no column %q; the columns are %v", name, columns[:len(columns)-1])
		}
	}
	for {
		record, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading transactions: %w", err)
		}
		line, _ := lines.FieldPos(0)
		in, fraud, err := transactionOf(record, at)
		if err != nil {
			return fmt.Errorf("reading line %d: %w", line, err)
		}
		t, err := features.Of(&in)
		if err != nil {
			return fmt.Errorf("reading line %d: %w", line, err)
		}
		if err := each(in.ID, t, fraud); err != nil {
			return err
		}
	}
}

// transactionOf makes a transaction of a line, without judging it.
func transactionOf(record []string, at map[string]int) (t api.Transaction, fraud bool, err error) {
	failed := func(name string, cause error) {
		if err == nil && cause != nil {
			err = fmt.Errorf("column %q: %w", name, cause)
		}
	}
	whole := func(name string, bits int) uint64 {
		n, cause := strconv.ParseUint(record[at[name]], 10, bits)
		failed(name, cause)
		return n
	}
	degrees := func(name string) float64 {
		v, cause := strconv.ParseFloat(record[at[name]], 64)
		failed(name, cause)
		return v
	}
	t = api.Transaction{
		ID: record[at["id"]], Customer: uint32(whole("customer", 32)), Terminal: uint32(whole("terminal", 32)), Merchant: uint32(whole("merchant", 32)), Device: uint32(whole("device", 32)),
		Amount: int64(whole("cents", 63)), Channel: api.Channel(record[at["channel"]]), Category: record[at["merchant_category"]], Country: record[at["country"]],
		Latitude: degrees("latitude"), Longitude: degrees("longitude"),
	}
	var cause error
	t.Time, cause = time.Parse(time.RFC3339, record[at["time"]])
	failed("time", cause)
	if i := at["fraud"]; i >= 0 && record[i] != "" {
		fraud, cause = strconv.ParseBool(record[i])
		failed("fraud", cause)
	}
	return t, fraud, err
}
