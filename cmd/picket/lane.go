package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/commandline"
	"github.com/picket-ml/picket/lane"
)

// laneModel is a model over lane.sock.
type laneModel struct {
	client  *lane.Client
	model   *lane.Model
	place   commandline.Place
	doing   string
	timeout time.Duration
}

// askLane connects to the lane of the daemon that d is for, and opens the model of that name.
func askLane(c *cobra.Command, d *daemon, doing, name string) (asked, error) {
	ctx, cancel := context.WithTimeout(c.Context(), d.timeout)
	defer cancel()
	if d.place.IsPort() {
		return nil, usage("the lane has no port: give --sockets the daemon's socket directory, or ask with --protocol agent or oip")
	}
	m := &laneModel{place: d.place.Beside("lane.sock"), doing: doing, timeout: d.timeout}
	var err error
	m.client, err = lane.Dial(ctx, m.place.Address, lane.Options{Timeout: d.timeout})
	if err != nil {
		return nil, m.explain(err)
	}
	if m.model, err = m.client.Model(ctx, name); err != nil {
		_ = m.client.Close() // nothing was asked over it
		return nil, m.explain(err)
	}
	return m, nil
}

func (m *laneModel) close() { _ = m.client.Close() } // what was asked was answered

func (m *laneModel) inputs() []shaped {
	var all []shaped
	for _, s := range m.model.Signature().Inputs {
		all = append(all, shaped{s.Name, s.DType, s.Dims})
	}
	return all
}

func (m *laneModel) predict(c *cobra.Command, rows int, data [][]byte) ([]answer, error) {
	ctx, cancel := context.WithTimeout(c.Context(), m.timeout)
	defer cancel()
	outputs, err := m.model.Predict(ctx, rows, data...)
	if err != nil {
		return nil, m.explain(err)
	}
	var answers []answer
	for i, s := range m.model.Signature().Outputs {
		answers = append(answers, answer{s.Name, s.DType, outputs[i]})
	}
	return answers, nil
}

// explain turns an error of the lane into a failure.
func (m *laneModel) explain(err error) *failure {
	var said *lane.Error
	if !errors.As(err, &said) {
		return &failure{exitFailed, fmt.Errorf("%s: %w", m.doing, err)}
	}
	code, message := exitFailed, said.Sentence
	switch said.Code {
	case lane.Unavailable:
		code, message = exitUnreachable, oneLine(said.Error())
		var dialing *net.OpError
		if errors.As(err, &dialing) && dialing.Op == "dial" {
			return notConnected(m.doing, m.place, dialing)
		}
	case lane.NotFound:
		message += "; picket list shows what is"
	case lane.DeadlineExceeded:
		message = fmt.Sprintf("no answer within %v; give it longer with --timeout, or look at the daemon's log", m.timeout)
	}
	return &failure{code, errors.New(sentence(m.doing, message))}
}
