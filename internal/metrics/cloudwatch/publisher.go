package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"

	"github.com/picket-ml/picket/internal/alarm"
	"github.com/picket-ml/picket/internal/metrics"
)

// Options is what a Publisher is made of.
type Options struct {
	// Client is CloudWatch's; nil to send nothing to its API.
	Client *cloudwatch.Client
	// EMF is a file for log lines in the embedded metric format, or "stdout"; empty for
	// none.
	EMF string
	// Stdout is standard output; nil for the process's own.
	Stdout io.Writer
	// Namespace, Fleet and Device are what metrics are sent under.
	Namespace, Fleet, Device string
	// Period is how often a sample is taken, Timeout how long one request may take.
	Period, Timeout time.Duration
	// Dir is where batches wait, below which the directory dirName is made; empty for
	// memory. Limit is how much may wait, in bytes.
	Dir   string
	Limit int64
	// Sampler takes the samples.
	Sampler *metrics.Sampler
	Log     *slog.Logger

	// now and after are the clock of tests.
	now   func() time.Time
	after func(context.Context, time.Duration) <-chan time.Time
}

// dirName is the directory of the batches that wait.
const dirName = "cloudwatch"

// Publisher takes samples and sends them, from Start to Shutdown.
type Publisher struct {
	o       Options
	id      identity
	backlog *backlog
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup
	added   chan struct{} // a token when there is something new to send
	sampled sync.Mutex    // held while a sample is taken

	sent     atomic.Uint64 // metrics
	failures atomic.Uint64 // requests
	told     uint64        // losses that were in a sample
	owned    bool          // whether it was said that the directory is another's
	emfDown  bool          // whether it was said that lines cannot be written
}

// New makes a Publisher that does nothing yet.
func New(o Options) *Publisher {
	if o.now == nil {
		o.now, o.after = time.Now, alarm.After
	}
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	dir := o.Dir
	if dir != "" {
		dir = filepath.Join(dir, dirName)
	}
	p := &Publisher{o: o, id: identity{o.Fleet, o.Device}, backlog: newBacklog(dir, o.Limit, o.Log), added: make(chan struct{}, 1)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Start begins. It is called once.
func (p *Publisher) Start() {
	p.openBacklog()
	p.work.Go(p.sampleAlways)
	if p.o.Client != nil {
		p.work.Go(p.sendAlways)
	}
}

// Shutdown takes a last sample, and sends what it can until ctx ends; the rest waits on
// disk for the next process. It is called at most once, after Start.
func (p *Publisher) Shutdown(ctx context.Context) error {
	p.cancel()
	p.work.Wait()
	p.sample()
	if p.o.Client != nil {
		for ctx.Err() == nil {
			if more, err := p.sendOne(ctx); !more || err != nil {
				break // it is on disk
			}
		}
	}
	if err := p.backlog.close(); err != nil {
		return fmt.Errorf("closing the metrics that wait: %w", err)
	}
	return nil
}

// sampleAlways takes a sample whenever a period is over, at the same moments of the
// clock on all hosts and after every restart.
func (p *Publisher) sampleAlways() {
	for {
		now := p.o.now()
		select {
		case <-p.ctx.Done():
			return
		case <-p.o.after(p.ctx, now.Truncate(p.o.Period).Add(p.o.Period).Sub(now)):
		}
		p.openBacklog()
		p.sample()
	}
}

func (p *Publisher) openBacklog() {
	err := p.backlog.open()
	switch {
	case err == nil:
		p.owned = false
	case errors.Is(err, errOwned):
		if !p.owned {
			p.o.Log.Info("metrics wait in memory while another process has their directory", "directory", p.backlog.dir)
		}
		p.owned = true
	default:
		if !p.owned {
			p.o.Log.Warn("metrics wait in memory only: their directory cannot be used", "directory", p.backlog.dir, "error", err)
		}
		p.owned = true
	}
}

// sample takes one and puts it where it is to go.
func (p *Publisher) sample() {
	p.sampled.Lock()
	defer p.sampled.Unlock()
	now := p.o.now()
	readings := append(p.o.Sampler.Sample(now), p.own()...)
	if p.o.EMF != "" {
		text, err := p.id.lines(p.o.Namespace, readings, now)
		if err == nil {
			err = appendTo(p.o.EMF, p.o.Stdout, text)
		}
		if err != nil && !p.emfDown {
			p.o.Log.Warn("metrics cannot be written as log lines", "file", p.o.EMF, "error", err)
		}
		p.emfDown = err != nil
	}
	if p.o.Client == nil {
		return
	}
	for _, one := range p.id.expand(readings, now) {
		if err := p.backlog.add(&one); err != nil {
			p.o.Log.Error("keeping metrics", "error", err)
		}
	}
	select {
	case p.added <- struct{}{}:
	default: // it is there
	}
}

// own are readings about sending.
func (p *Publisher) own() []metrics.Reading {
	if p.o.Client == nil {
		return nil
	}
	waiting, _ := p.backlog.waiting()
	var lost uint64
	for _, n := range p.backlog.losses() {
		lost += n
	}
	since := lost - p.told
	p.told = lost
	return []metrics.Reading{
		metrics.One(metrics.Backlog, metrics.Labels{}, float64(waiting)), metrics.One(metrics.Lost, metrics.Labels{}, float64(since)),
	}
}

// patience is after how many periods at most a failed request is tried again.
const patience = 8

// sendAlways sends what waits. After a failure it lets time go by, more each time and
// never the same on two hosts, so that a fleet whose network is back does not come all
// at once.
func (p *Publisher) sendAlways() {
	failed := 0
	for {
		more, err := p.sendOne(p.ctx)
		switch {
		case p.ctx.Err() != nil:
			return
		case err != nil:
			p.failures.Add(1)
			if failed++; failed == 1 {
				waiting, _ := p.backlog.waiting()
				p.o.Log.Warn("sending metrics to CloudWatch: they wait until it can be reached", "waiting_batches", waiting, "error", err)
			}
			pause := p.o.Period * time.Duration(min(1<<min(failed-1, 10), patience))
			select {
			case <-p.ctx.Done():
				return
			case <-p.o.after(p.ctx, pause/2+rand.N(pause)):
			}
		case !more:
			select {
			case <-p.ctx.Done():
				return
			case <-p.added:
			}
		default:
			if failed > 0 {
				waiting, _ := p.backlog.waiting()
				p.o.Log.Info("sending metrics to CloudWatch works again", "waiting_batches", waiting)
			}
			failed = 0
		}
	}
}

// sendOne sends the newest batch; more is false where there was none.
func (p *Publisher) sendOne(ctx context.Context) (more bool, err error) {
	one, name, ok := p.backlog.newest(p.o.now())
	if !ok {
		return false, nil
	}
	refused, err := p.put(ctx, one.Time, one.Data)
	if err != nil {
		return true, err
	}
	p.backlog.done(name, refused)
	p.sent.Add(uint64(len(one.Data) - refused))
	return true, nil
}

// put sends metrics, and finds out which of them CloudWatch refuses: those it gives up.
// An error says that none of it is decided.
func (p *Publisher) put(ctx context.Context, at time.Time, data []datum) (refused int, err error) {
	err = p.request(ctx, at, data)
	if !faulty(err) {
		return 0, err
	}
	if len(data) == 1 {
		p.o.Log.Error("CloudWatch refuses a metric, which is given up", "metric", data[0].Name, "error", err)
		return 1, nil
	}
	// What was sent before an error is sent again then; better twice than never.
	half := len(data) / 2
	first, err := p.put(ctx, at, data[:half])
	if err != nil {
		return 0, err
	}
	second, err := p.put(ctx, at, data[half:])
	return first + second, err
}

// faulty tells whether an error says that what was sent is wrong, so that it will be
// wrong the next time too.
func faulty(err error) bool {
	var e smithy.APIError
	if !errors.As(err, &e) {
		return false
	}
	switch e.ErrorCode() {
	case "InvalidParameterValue", "InvalidParameterCombination", "MissingRequiredParameter", "MissingParameter", "ValidationError",
		"InvalidParameterValueException", "InvalidParameterCombinationException", "MissingRequiredParameterException", "ValidationException":
		return true
	}
	return false
}

func (p *Publisher) request(ctx context.Context, at time.Time, data []datum) error {
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	resolution := int32(60)
	if p.o.Period < time.Minute {
		resolution = 1
	}
	in := &cloudwatch.PutMetricDataInput{Namespace: aws.String(p.o.Namespace), MetricData: make([]types.MetricDatum, len(data))}
	for i := range data {
		d := &data[i]
		m := &in.MetricData[i]
		*m = types.MetricDatum{
			MetricName: aws.String(d.Name), Timestamp: aws.Time(at), Unit: types.StandardUnit(d.Unit), StorageResolution: aws.Int32(resolution),
		}
		for _, dimension := range d.Dimensions {
			m.Dimensions = append(m.Dimensions, types.Dimension{Name: aws.String(dimension[0]), Value: aws.String(dimension[1])})
		}
		if len(d.Values) == 1 && d.Counts == nil {
			m.Value = aws.Float64(d.Values[0])
		} else {
			m.Values, m.Counts = d.Values, d.Counts
		}
	}
	_, err := p.o.Client.PutMetricData(ctx, in)
	return err
}

// Stats is what a Publisher has done.
type Stats struct {
	// Sent are metrics that CloudWatch has taken, Lost those that were given up, by
	// reason, Failures requests that failed.
	Sent, Failures uint64
	Lost           map[string]uint64
	// Batches and Bytes wait to be sent.
	Batches int
	Bytes   int64
}

// Stats is zero for a nil Publisher.
func (p *Publisher) Stats() Stats {
	if p == nil {
		return Stats{}
	}
	s := Stats{Sent: p.sent.Load(), Failures: p.failures.Load(), Lost: p.backlog.losses()}
	s.Batches, s.Bytes = p.backlog.waiting()
	return s
}
