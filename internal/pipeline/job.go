package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/picket-ml/picket/internal/cloud"
)

// jobKind is what differs between jobs that train and jobs that compile.
type jobKind struct {
	noun             string // in sentences
	create, describe string // operations
	name             string // what the name is called in a request
	logs             string // CloudWatch's group of the logs
	request          func(name string) any
}

// Names of jobs have 63 characters at most: letters, digits and inner hyphens.
const maxJobName = 63

var notInJobName = regexp.MustCompile(`[^a-zA-Z0-9]+`)

// jobName names the try of a job whose request has that digest. The same request always gives the same name, and another
// request another: what a pipeline is called is in it for people only.
func jobName(pipeline, version, digest string, try int) string {
	tail := "-" + digest[:16]
	if try > 1 {
		tail += fmt.Sprintf("-%d", try)
	}
	head := strings.Trim(notInJobName.ReplaceAllString("picket-"+pipeline+"-"+version, "-"), "-")
	if len(head)+len(tail) > maxJobName {
		head = strings.TrimRight(head[:maxJobName-len(tail)], "-")
	}
	return head + tail
}

// digest is that of the request without a name.
func (k *jobKind) digest() (string, error) { return keyOf(k.create, k.request("")) }

// next is the name that the job has, or will have, as far as the record knows: nothing is asked for here.
func (k *jobKind) next(s *Spec, rec *record) (name string, try int, err error) {
	digest, err := k.digest()
	if err != nil {
		return "", 0, err
	}
	try = 1
	if rec != nil && rec.Job != nil {
		if try = rec.Job.Try; rec.Job.Told {
			try++
		}
	}
	return jobName(s.Name, s.Version, digest, try), try, nil
}

// maxTries is how many jobs may fail before somebody has to look.
const maxTries = 99

// job has the job done: it finds it by its name, or starts it, and waits until it has ended. What is known of it is put on
// record before anything is asked of SageMaker.
func (r *run) job(ctx context.Context, step string, rec *record, k *jobKind) (*jobStatus, error) {
	digest, err := k.digest()
	if err != nil {
		return nil, err
	}
	name, try, err := k.next(r.spec, rec)
	if err != nil {
		return nil, err
	}
	for {
		resumed := rec.Job != nil && rec.Job.Name == name
		if !resumed {
			rec.Job = &job{Name: name, Try: try}
			if err := r.journal.put(step, rec); err != nil {
				return nil, err
			}
		}
		status, err := r.await(ctx, step, name, k)
		if err != nil {
			return nil, err
		}
		state := status.state()
		if state == jobCompleted {
			return &status.jobStatus, nil
		}
		reason := failure(k, name, status)
		if !status.fresh && !resumed {
			// It ended before this pipeline knew of it: another machine's run has told.
			if try == maxTries {
				return nil, fmt.Errorf("%w; %d jobs have ended so, which is enough", reason, try)
			}
			r.tell(step, Working, reason.Error()+"; starting another")
			try++
			name = jobName(r.spec.Name, r.spec.Version, digest, try)
			continue
		}
		rec.Job.Told = true
		if err := r.journal.put(step, rec); err != nil {
			return nil, errors.Join(reason, err)
		}
		return nil, reason
	}
}

// failure says why a job did not complete.
func failure(k *jobKind, name string, status *ended) error {
	reason := oneLine(status.FailureReason)
	if reason == "" {
		reason = "SageMaker gives no reason"
	}
	if len(reason) > maxReason {
		reason = reason[:maxReason] + "..."
	}
	what := "failed"
	if status.state() == jobStopped {
		what = "was stopped"
	}
	text := fmt.Sprintf("the %s %s %s: %s", k.noun, name, what, strings.TrimSuffix(reason, "."))
	if k.logs != "" {
		text += fmt.Sprintf(" (its log is in CloudWatch, group %s, streams %s/...)", k.logs, name)
	}
	return errors.New(text)
}

// ended is a job that has ended; fresh where this process saw it run.
type ended struct {
	jobStatus
	fresh bool
}

// await starts the job of that name unless it is there, and waits for its end.
func (r *run) await(ctx context.Context, step, name string, k *jobKind) (*ended, error) {
	began, last, fresh := time.Now(), "", false
	for {
		status := &ended{}
		err := r.patiently(ctx, step, "asking for the "+k.noun+" "+name, func(ctx context.Context) error {
			status.jobStatus = jobStatus{}
			err := r.service.call(ctx, k.describe, map[string]string{k.name: name}, &status.jobStatus)
			if !errors.Is(err, errNoJob) {
				return err
			}
			fresh = true
			if err = r.service.call(ctx, k.create, k.request(name), &struct{}{}); err == nil || errors.Is(err, errJobExists) {
				if err == nil {
					r.tell(step, Working, "started the "+k.noun+" "+name)
				}
				status.SecondaryStatus = "Starting"
				return nil
			}
			return err
		})
		if ctx.Err() != nil && err != nil {
			if fresh {
				return nil, interrupted(ctx, k, name)
			}
			return nil, fmt.Errorf("interrupted; the %s %s goes on at SageMaker if it was started, and the next run looks for it: %w", k.noun, name, context.Cause(ctx))
		}
		if err != nil {
			return nil, err
		}
		if status.fresh = fresh; status.state() != jobRuns {
			return status, nil
		}
		fresh = true
		if now := status.now(); now != last {
			last = now
			r.tell(step, Working, fmt.Sprintf("%s, after %v", now, time.Since(began).Round(time.Second)))
		}
		timer := time.NewTimer(r.spec.SageMaker.Poll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, interrupted(ctx, k, name)
		}
	}
}

func interrupted(ctx context.Context, k *jobKind, name string) error {
	return fmt.Errorf("interrupted while the %s %s runs at SageMaker; it goes on there, and the next run waits for it: %w", k.noun, name, context.Cause(ctx))
}

// patiently does what may fail because of the network, or of a service that is busy, until it succeeds, fails for good, or
// patience ends.
func (r *run) patiently(ctx context.Context, step, doing string, do func(context.Context) error) error {
	return away(ctx, doing, cloud.Retry(ctx, r.policy(step, doing), do))
}

// policy is how long to go on with something while AWS cannot be reached.
func (r *run) policy(step, doing string) cloud.Policy {
	first := min(time.Second, r.spec.SageMaker.Poll)
	return cloud.Policy{
		First: first, Longest: max(4*r.spec.SageMaker.Poll, first), Patience: r.spec.SageMaker.Patience,
		Report: func(err error, pause time.Duration) {
			r.tell(step, Working, fmt.Sprintf("%s: %v; trying again in %v", doing, err, pause.Round(time.Millisecond)))
		},
	}
}

// isJSON tells whether text is one JSON value.
func isJSON(text string) bool { return json.Valid([]byte(text)) }
