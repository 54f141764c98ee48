package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/examples/fraud/features"
	"github.com/picket-ml/picket/examples/fraud/generate"
	"github.com/picket-ml/picket/examples/fraud/store"
)

// importedAtOnce are stored before more are made or read.
const importedAtOnce = 20_000

func importCommand() *cobra.Command {
	var d database
	var state string
	c := &cobra.Command{
		Use: "import FILE.csv", Short: "store transactions of the past, so that profiles begin with them", Args: cobra.ExactArgs(1),
		Long: `Store transactions of the past that were decided elsewhere, so that profiles
begin with them: 38 days are what a profile can see. The file has the columns
of "fraud generate --raw -o FILE.csv", in any order and with others beside them;
"fraud", 0 or 1, may be left out or empty where nobody knows. What is in the
database already stays as it is, so an import that was interrupted is begun
again. Application servers see the history at their next start.`,
		RunE: func(c *cobra.Command, args []string) (err error) {
			file, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("importing: %w", err)
			}
			defer file.Close()
			s, err := d.open(c.Context(), state)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.Close()) }()
			began, to := time.Now(), importer{to: s}
			err = generate.ReadCSV(bufio.NewReaderSize(file, 1<<20), func(id string, t features.Transaction, fraud bool) error {
				return to.add(c.Context(), store.Past{ID: id, Transaction: t, Fraud: fraud})
			})
			if err = errors.Join(err, to.flush(c.Context())); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%d transactions are imported, %d were there before, in %.1f s\n", to.fresh, to.all-to.fresh, time.Since(began).Seconds())
			return nil
		},
	}
	d.flags(c)
	c.Flags().StringVar(&state, "state", ".", "the folder of the application's files")
	return c
}

// importer puts transactions into a database, many at once.
type importer struct {
	to         *store.Store
	waiting    []store.Past
	all, fresh int
}

func (i *importer) add(ctx context.Context, one store.Past) error {
	i.waiting = append(i.waiting, one)
	if len(i.waiting) < importedAtOnce {
		return nil
	}
	return i.flush(ctx)
}

func (i *importer) flush(ctx context.Context) error {
	fresh, err := i.to.Import(ctx, i.waiting)
	i.all, i.fresh = i.all+len(i.waiting), i.fresh+fresh
	i.waiting = i.waiting[:0]
	return err
}

// importDays stores the next days of a simulation.
func importDays(ctx context.Context, to *store.Store, simulation *generate.Simulation, days int) error {
	into := importer{to: to}
	for range days {
		today := simulation.Day()
		for n := range today {
			if err := into.add(ctx, store.Past{ID: today[n].ID(), Transaction: today[n].Transaction, Fraud: today[n].Fraud()}); err != nil {
				return err
			}
		}
	}
	return into.flush(ctx)
}
