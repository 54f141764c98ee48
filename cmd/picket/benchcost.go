package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/bench/cost"
	"github.com/picket-ml/picket/bench/report"
)

func newBenchCost() *cobra.Command {
	c := &cobra.Command{
		Use:   "cost RESULT... --prices FILE",
		Short: "Say what predictions cost, and how many hosts a load needs",
		Long: `Say from result files of picket bench run, and from a file of prices, what a
million predictions cost on each host, by the most rows a second that were
measured; and with --load and --p99 how many hosts that load needs: the load,
divided by the highest rate of scenario Server up to which every rate tried met
the bound, less --headroom, plus --spare hosts that may fail.

Picket knows no prices. The file names currency, date and source of its own;
bench/prices.example.yaml shows the form and holds invented numbers.`,
		Example: `  picket bench cost m5.json c5.json --prices prices.yaml
  picket bench cost m5.json --prices prices.yaml --load 5000/s --p99 5ms \
    --headroom 30% --spare 1`,
		Args: cobra.MinimumNArgs(1),
	}
	o := cost.Options{Use: 1}
	prices := c.Flags().String("prices", "", "the `FILE` of prices, in YAML")
	load := c.Flags().String("load", "", "requests a second that are to be answered, such as 5000/s")
	use, headroom := percent(1), percent(0)
	c.Flags().Var(&use, "use", "the share of the time that the hosts have work")
	c.Flags().Var(&headroom, "headroom", "the share of a host's capacity that is to stay free")
	c.Flags().IntVar(&o.Demand.Spare, "spare", 0, "how many hosts may fail: so many more are counted")
	c.Flags().StringVar(&o.Type, "type", "", "take the price of this `TYPE` of host, whatever host was measured")
	bounds := []struct {
		name     string
		quantile float64
		bound    *time.Duration
	}{{"p50", 0.5, nil}, {"p90", 0.9, nil}, {"p99", 0.99, nil}, {"p999", 0.999, nil}}
	for i := range bounds {
		bounds[i].bound = c.Flags().Duration(bounds[i].name, 0, fmt.Sprintf("the time that %g%% of the requests are to be answered within", 100*bounds[i].quantile))
	}
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		if *prices == "" {
			return usage("name the file of prices with --prices; bench/prices.example.yaml shows the form")
		}
		given := 0
		for _, b := range bounds {
			if *b.bound > 0 {
				o.Demand.BoundNS, o.Demand.Quantile = float64(*b.bound), b.quantile
				given++
			}
		}
		if *load != "" {
			var err error
			if o.Demand.PerS, err = rateOf(*load); err != nil {
				return usage("--load %q: %v", *load, err)
			}
		}
		o.Use, o.Demand.Headroom = float64(use), float64(headroom)
		switch {
		case (*load != "") != (given == 1):
			return usage("a load and one bound belong together: --load 5000/s --p99 5ms")
		case !(o.Use > 0 && o.Use <= 1):
			return usage("--use %v is no share of the time", &use)
		case o.Demand.Headroom >= 1:
			return usage("--headroom %v leaves nothing of a host", &headroom)
		case o.Demand.Spare < 0:
			return usage("--spare %d is no number of hosts", o.Demand.Spare)
		}
		p, err := cost.ReadPrices(*prices)
		if err != nil {
			return err
		}
		lines := []cost.Line{}
		for _, path := range args {
			r, err := report.ReadResult(path)
			if err != nil {
				return err
			}
			of, err := cost.Of(filepath.Base(path), r, p, o)
			if err != nil {
				return fmt.Errorf("reckoning the cost: %w", err)
			}
			lines = append(lines, of...)
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), struct {
				Prices *cost.Prices `json:"prices"`
				Lines  []cost.Line  `json:"lines"`
			}{p, lines})
		}
		return writeCosts(c.OutOrStdout(), p, lines, o.Demand.PerS > 0)
	})
	return c
}

// rateOf reads 5000/s.
func rateOf(text string) (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSuffix(text, "/s"), 64)
	if err != nil || !(v > 0) || math.IsInf(v, 0) {
		return 0, errors.New("it is no rate; write it as 5000/s")
	}
	return v, nil
}

func writeCosts(w io.Writer, p *cost.Prices, lines []cost.Line, demand bool) error {
	fmt.Fprintf(w, "prices in %s as of %s: %s\n", p.Currency, p.AsOf, p.Source)
	if p.Example {
		fmt.Fprintln(w, "THIS IS THE EXAMPLE: its numbers are invented")
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := "host\tmodel\ttarget\trows/s\t" + p.Currency + " a million"
	if demand {
		head += "\trequests/s within the bound\thosts\t" + p.Currency + " an hour"
	}
	fmt.Fprintln(table, head)
	said := map[string]bool{}
	var remarks []string
	for i := range lines {
		l := &lines[i]
		text := fmt.Sprintf("%s\t%s\t%s\t%.0f\t%.6f", l.Host.Type, l.Model, l.Target, l.RowsPerS, l.PerMillion)
		switch {
		case demand && l.WhyNot != "":
			text += "\t-\t-\t" + l.WhyNot
		case demand:
			text += fmt.Sprintf("\t%.0f\t%d\t%.2f", l.CapacityPerS, l.Hosts, l.HostsPerHour)
		}
		fmt.Fprintln(table, text)
		for _, remark := range l.Remarks {
			if remark = l.Result + ": " + remark; !said[remark] {
				said[remark] = true
				remarks = append(remarks, remark)
			}
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing the costs: %w", err)
	}
	for _, remark := range remarks {
		if _, err := fmt.Fprintf(w, "\n%s", remark); err != nil {
			return fmt.Errorf("writing the costs: %w", err)
		}
	}
	if len(remarks) > 0 {
		fmt.Fprintln(w)
	}
	return nil
}
