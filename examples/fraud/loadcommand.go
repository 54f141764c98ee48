package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/examples/fraud/generate"
	"github.com/picket-ml/picket/examples/fraud/load"
)

func loadCommand() *cobra.Command {
	var (
		o                load.Options
		simulation       generate.Options
		key, certificate string
		most             float64
	)
	c := &cobra.Command{
		Use: "load", Short: "send simulated transactions to a front-end started with --any-time behind it, and measure", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if o.Key, err = firstLine(key); err != nil {
				return err
			}
			if o.TLS, err = trust(certificate); err != nil {
				return err
			}
			rate := o.Rate
			if rate <= 0 {
				rate = most
			}
			list, err := load.Bodies(generate.New(simulation), fmt.Sprintf("load-%x-", rand.Uint64()), int(1.2*rate*(o.For+o.Warm).Seconds())+100)
			if err != nil {
				return err
			}
			result, err := load.Run(c.Context(), o, list)
			if err != nil {
				return err
			}
			return json.NewEncoder(c.OutOrStdout()).Encode(result)
		},
	}
	c.Flags().StringVar(&o.URL, "url", "https://127.0.0.1:8443", "the front-end")
	c.Flags().StringVar(&key, "client-keys", "client.keys", "a file whose first line is the key to send")
	c.Flags().StringVar(&certificate, "certificate", "frontend.pem", "the front-end's certificate, or that of who has signed it")
	c.Flags().IntVar(&o.Clients, "clients", 64, "how many transactions are under way at most")
	c.Flags().Float64Var(&o.Rate, "rate", 0, "transactions a second that come whatever the answers do; 0 sends the next when one is answered")
	c.Flags().Float64Var(&most, "at-most", 20_000, "transactions a second that are prepared where there is no --rate")
	c.Flags().DurationVar(&o.For, "for", 10*time.Second, "how long")
	c.Flags().DurationVar(&o.Warm, "warm", 2*time.Second, "how long before anything counts")
	c.Flags().Uint64Var(&simulation.Seed, "seed", 1, "of the simulation")
	c.Flags().IntVar(&simulation.Customers, "customers", 3000, "of the simulation")
	return c
}

func firstLine(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the client's key: %w", err)
	}
	fields := strings.Fields(string(text))
	if len(fields) == 0 {
		return "", fmt.Errorf("reading the client's key: %s is empty", path)
	}
	return fields[0], nil
}

func trust(path string) (*tls.Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the front-end's certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading the front-end's certificate: %s has none", path)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// streamCommand is what make run shows: simulated customers at a steady rate, until it is stopped.
func streamCommand() *cobra.Command {
	var (
		url, key, certificate, from string
		simulation                  generate.Options
		rate                        float64
		clients                     int
	)
	c := &cobra.Command{
		Use: "stream", Short: "send simulated transactions at a steady rate until it is stopped", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if from != "" {
				if simulation.Start, err = time.Parse(time.DateOnly, from); err != nil {
					return fmt.Errorf("reading --start: %q is not a day like 2026-01-31", from)
				}
			}
			s := load.Stream{URL: url, Rate: rate, Clients: clients}
			if s.Key, err = firstLine(key); err != nil {
				return err
			}
			if s.TLS, err = trust(certificate); err != nil {
				return err
			}
			if err := s.Run(c.Context(), generate.New(simulation)); err != nil && c.Context().Err() == nil {
				return err
			}
			return nil
		},
	}
	c.Flags().StringVar(&url, "url", "https://127.0.0.1:8443", "the front-end")
	c.Flags().StringVar(&key, "client-keys", "client.keys", "a file whose first line is the key to send")
	c.Flags().StringVar(&certificate, "certificate", "frontend.pem", "the front-end's certificate, or that of who has signed it")
	c.Flags().Float64Var(&rate, "rate", 30, "transactions a second")
	c.Flags().IntVar(&clients, "clients", 16, "how many are under way at most")
	c.Flags().StringVar(&from, "start", "", "the simulation's first day; today if empty")
	c.Flags().Uint64Var(&simulation.Seed, "seed", uint64(time.Now().UnixNano()), "of the simulation")
	c.Flags().IntVar(&simulation.Customers, "customers", 3000, "of the simulation")
	c.PreRun = func(*cobra.Command, []string) {
		if from == "" {
			simulation.Start = time.Now().UTC().Truncate(24 * time.Hour)
		}
	}
	return c
}
