package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"
)

// scraped is what one reading of the metrics brought.
type scraped struct {
	sample *sample
	err    error
}

// live draws views on the screen until ctx ends or q is pressed. A daemon that goes away is waited for, but one that was
// never there is an error.
func (t *top) live(ctx context.Context, s *screen) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first, err := t.scraper.scrape(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, resized, suspended, continued)
	defer signal.Stop(signals)
	if err := s.enter(); err != nil {
		return fmt.Errorf("drawing on the terminal: %w", err)
	}
	defer s.leave()

	shown := t.view(nil, first)
	before, away := first, error(nil)
	keys, samples := s.keys(ctx), t.watch(ctx)
	for {
		if err := s.draw(t.screenful(s, shown, away)); err != nil {
			return fmt.Errorf("drawing on the terminal: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case key := <-keys:
			const ctrlD = 4
			if key == 'q' || key == 'Q' || key == ctrlD {
				return nil
			}
		case now := <-samples:
			if away = now.err; away == nil {
				shown = t.view(before, now.sample)
				before = now.sample
			}
		case got := <-signals:
			if got == suspended {
				if err := suspend(s, signals); err != nil {
					return err
				}
			}
		}
	}
}

// watch sends a sample or an error at every interval until ctx ends.
func (t *top) watch(ctx context.Context) <-chan scraped {
	samples := make(chan scraped)
	go func() {
		ticker := time.NewTicker(t.interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
			var now scraped
			now.sample, now.err = t.scraper.scrape(ctx)
			select {
			case samples <- now:
			case <-ctx.Done():
				return
			}
		}
	}()
	return samples
}

// screenful is what is drawn: the models that there is room for, and below them the keys, or why there is nothing new.
func (t *top) screenful(s *screen, v *view, away error) []tableLine {
	width, height := s.size()
	lines := v.lines(width)
	footer := tableLine{text: fmt.Sprintf("every %v; q ends", t.interval)}
	if away != nil {
		footer = tableLine{"as of " + v.Time.Local().Format(time.TimeOnly) + ": " + away.Error(), failingLine}
	}
	const around = 2 // the empty line and the footer
	if room := height - around; len(lines) > room && room > 0 {
		if away == nil {
			footer.text = fmt.Sprintf("%d of %d models have no room; %s", min(len(lines)-room, len(v.Models)), len(v.Models), footer.text)
		}
		lines = lines[:room]
	}
	return append(lines, tableLine{}, footer)
}

// suspend gives the terminal back, stops the process as Ctrl-Z asks for, and takes the terminal again when it goes on.
func suspend(s *screen, signals <-chan os.Signal) error {
	s.leave()
	if err := stopSelf(); err != nil {
		return err
	}
	for got := range signals {
		if got == continued {
			break
		}
	}
	if err := s.enter(); err != nil {
		return fmt.Errorf("drawing on the terminal: %w", err)
	}
	return nil
}
