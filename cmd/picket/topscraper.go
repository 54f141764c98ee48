package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	promodel "github.com/prometheus/common/model"
)

// maxExposition is several times what ten thousand models take.
const maxExposition = 1 << 30

// scraper reads the daemon's metrics over oip.sock. close ends it.
type scraper struct {
	daemon *daemon // a connection of its own, to that socket
	client *http.Client
}

// newScraper is for the daemon that d talks to. It connects when it is used.
func newScraper(d *daemon) (*scraper, error) {
	own, err := dialPlace(d.place.Beside("oip.sock"), d.timeout)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return own.connect(ctx, "") }}
	return &scraper{own, &http.Client{Transport: transport}}, nil
}

func (s *scraper) close() {
	s.client.CloseIdleConnections()
	_ = s.daemon.Close() // nothing was asked over it
}

// scrape reads the metrics once. Its error is a failure, but not where ctx has ended.
func (s *scraper) scrape(ctx context.Context) (*sample, error) {
	within, cancel := context.WithTimeout(ctx, s.daemon.timeout)
	defer cancel()
	families, err := s.read(within)
	switch {
	case err == nil:
		return newSample(time.Now(), families), nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case within.Err() != nil:
		return nil, &failure{exitFailed, fmt.Errorf("reading the metrics: %s", s.daemon.late())}
	}
	return nil, s.explain(err)
}

// badAnswer is what a daemon says that answers something else than metrics.
type badAnswer struct{ text string }

func (e *badAnswer) Error() string { return e.text }

func (s *scraper) read(ctx context.Context) (map[string]*dto.MetricFamily, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://picketd/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, &badAnswer{"what listens on " + s.daemon.place.Address + " has no metrics; it is older than this picket, or another program: install the same version of both"}
	default:
		const enough = 300
		said, _ := io.ReadAll(io.LimitReader(response.Body, enough)) // the status says it too
		return nil, &badAnswer{fmt.Sprintf("%s: %s", response.Status, printable(oneLine(string(said))))}
	}
	body := &io.LimitedReader{R: response.Body, N: maxExposition}
	parser := expfmt.NewTextParser(promodel.LegacyValidation)
	families, err := parser.TextToMetricFamilies(body)
	var syntax expfmt.ParseError
	switch {
	case body.N == 0:
		return nil, &badAnswer{fmt.Sprintf("the daemon's answer is longer than %d bytes", maxExposition)}
	case errors.As(err, &syntax):
		return nil, &badAnswer{"what listens on " + s.daemon.place.Address + " does not answer as picketd does: " + printable(oneLine(syntax.Error()))}
	}
	return families, err
}

// explain turns an error of read into a failure.
func (s *scraper) explain(err error) *failure {
	var bad *badAnswer
	if errors.As(err, &bad) {
		return &failure{exitFailed, fmt.Errorf("reading the metrics: %w", err)}
	}
	return s.daemon.unreachable("reading the metrics", err.Error())
}

// printable is text from outside without what a terminal would obey.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
