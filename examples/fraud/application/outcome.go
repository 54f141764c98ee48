package application

import (
	"context"
	"time"

	"github.com/picket-ml/picket/examples/fraud/store"
)

// Teller tells Picket what became of inferences, so that it goes home with what was captured of them.
type Teller interface {
	// Tell tells outcomes of one version of the model; Picket has them durably when it returns nil.
	Tell(ctx context.Context, version string, outcomes []store.Outcome) error
}

const (
	// outcomesAtOnce are told with one request.
	outcomesAtOnce = 500
	// outcomePatience is how long an outcome waits for a Picket that takes none, before it is given up.
	outcomePatience = 7 * 24 * time.Hour
)

// outcomes tells Picket what became of transactions, as soon as that is known: at least once each, however often either side is away or ends. Without a Teller it only forgets.
func (s *Server) outcomes(ctx context.Context) {
	usual := time.Second
	if s.o.Teller == nil {
		usual = time.Minute
	}
	failing := false
	for pause := usual; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		err := s.tellOutcomes(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failing, pause = false, usual
			continue
		}
		if !failing {
			s.log.Warn("Picket is not told what became of transactions; it is tried again until it is", "error", err)
		}
		failing, pause = true, min(2*pause, time.Minute)
	}
}

// tellOutcomes tells all there are.
func (s *Server) tellOutcomes(ctx context.Context) error {
	n, err := s.o.Store.ForgetOutcomes(ctx, time.Now().Add(-outcomePatience))
	if err != nil {
		return err
	}
	if s.o.Teller == nil {
		return nil
	}
	if n > 0 {
		s.log.Error("Picket was away for so long that it is not told any more what became of some transactions", "outcomes", n)
	}
	for {
		list, err := s.o.Store.Outcomes(ctx, outcomesAtOnce)
		if err != nil || len(list) == 0 {
			return err
		}
		byVersion := map[string][]store.Outcome{}
		for _, one := range list {
			byVersion[one.Model] = append(byVersion[one.Model], one)
		}
		for version, some := range byVersion {
			if err := s.o.Teller.Tell(ctx, version, some); err != nil {
				return err
			}
			if err := s.o.Store.Told(ctx, some); err != nil {
				return err
			}
			s.told.Add(uint64(len(some)))
		}
	}
}
