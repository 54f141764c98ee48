package main

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// change is the part: a model is replaced again and again while every protocol asks for it. Versions answer with their own number, so that each
// answer tells which one it is from.
func change(ctx context.Context, s *soak) error {
	first, err := s.numberedFolder(1)
	if err != nil {
		return err
	}
	d, err := s.start(ctx, "change", fmt.Sprintf("models: [{name: numbered, path: %q}]\n", first))
	if err != nil {
		return err
	}
	defer s.out.checkEnd(d)
	var begun, served atomic.Int64 // the last version whose loading has begun, and that has been told to be loaded
	begun.Store(1)
	served.Store(1)
	var failures, answers, changes atomic.Int64
	var why atomic.Pointer[error]
	asking, stop := context.WithCancel(ctx)
	defer stop()
	var ended sync.WaitGroup
	for _, p := range protocols {
		c, err := p.client(ctx, d, "numbered", numberFeatures)
		if err != nil {
			return err
		}
		defer c.Close()
		ended.Go(func() {
			x := make([]float32, 16*numberFeatures)
			last := int64(0)
			for asking.Err() == nil {
				from := served.Load()
				y, err := c.predict(ctx, x)
				to := begun.Load()
				if err == nil {
					err = ofOneVersion(y, len(x)/numberFeatures, from, to)
				}
				if err != nil {
					failures.Add(1)
					err = fmt.Errorf("%s: %w", p.name, err)
					why.CompareAndSwap(nil, &err)
					time.Sleep(time.Millisecond)
					continue
				}
				answers.Add(1)
				if v := int64(y[0]); v != last {
					changes.Add(1)
					last = v
				}
			}
		})
	}
	began := time.Now()
	for v := 2; v <= s.replacements+1 && ctx.Err() == nil; v++ {
		folder, err := s.numberedFolder(v)
		if err == nil {
			begun.Store(int64(v))
			if err = d.load(ctx, "numbered", folder); err == nil {
				served.Store(int64(v))
			}
		}
		if err != nil {
			stop()
			ended.Wait()
			return fmt.Errorf("replacing version %d: %w", v-1, err)
		}
	}
	took := time.Since(began)
	stop()
	ended.Wait()
	cause := "each from one version that was loaded then"
	if first := why.Load(); first != nil {
		cause = "the first failure: " + (*first).Error()
	}
	s.out.check(failures.Load() == 0, "no request fails over replacements", "%d of %d requests failed over %d replacements in %.1f s; %s",
		failures.Load(), failures.Load()+answers.Load(), s.replacements, took.Seconds(), cause)
	s.out.check(changes.Load() >= int64(s.replacements), "replacements are seen by those who ask", "%d times somebody's answer came from another version than the one before", changes.Load())
	return nil
}

// ofOneVersion fails unless y is so many answers of one version, from from to to.
func ofOneVersion(y []float32, rows int, from, to int64) error {
	if len(y) != rows {
		return fmt.Errorf("%d answers for %d rows", len(y), rows)
	}
	for _, v := range y {
		if v != y[0] {
			return fmt.Errorf("one request was answered by two versions, %v and %v", y[0], v)
		}
	}
	if v := float64(y[0]); v != math.Trunc(v) || v < float64(from) || v > float64(to) {
		return fmt.Errorf("version %v answered, only %d to %d could", v, from, to)
	}
	return nil
}
