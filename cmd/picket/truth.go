package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/engine"
)

// maxTruthFile is what the daemon takes at once by default.
const maxTruthFile = 80 << 20

func newTruth(flags *daemonFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "truth MODEL (ID OUTCOME | --input FILE)",
		Short: "Tell what became of inferences, to be kept with captures",
		Long: `Tell what became of inferences of MODEL, each by the ID that its caller gave it:
the request id of the Open Inference Protocol, the header
X-Amzn-SageMaker-Inference-Id, the capture id of CaptureData, or what the answer
itself was named (picket-inference-id, and on the lane). The daemon keeps the
outcomes in its capture spool, and answers when they are durable.

OUTCOME is JSON (1, true, "chargeback", {"loss": 12.5}); other text is a string.
FILE, or - for standard input, has one outcome a line, if need be with a "time":
{"id": ID, "outcome": OUTCOME}, or ID,OUTCOME where its name ends in .csv.`,
		Example: `  picket truth fraud 7f3a-42 1
  picket truth fraud --input chargebacks.csv`,
		Args: cobra.RangeArgs(1, 3),
	}
	flags.add(c.Flags(), "")
	input := c.Flags().String("input", "", "a `FILE` of outcomes, or - for standard input")
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		if err := engine.CheckName(args[0]); err != nil {
			return usage("%v", err)
		}
		body, kind, err := truthBody(c, args, *input)
		if err != nil {
			return err
		}
		n, err := tellTruth(c.Context(), flags, args[0], body, kind)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "kept %d\n", n)
		return nil
	})
	completeModel(c, flags)
	return c
}

// truthBody is what is sent, and its type.
func truthBody(c *cobra.Command, args []string, input string) (body []byte, kind string, err error) {
	const asJSON = "application/json"
	switch {
	case input == "" && len(args) == 3:
		outcome := json.RawMessage(args[2])
		if !json.Valid(outcome) {
			if outcome, err = json.Marshal(args[2]); err != nil {
				return nil, "", err
			}
		}
		body, err = json.Marshal(map[string]any{"id": args[1], "outcome": outcome})
		return body, asJSON, err
	case input == "" || len(args) != 1:
		return nil, "", usage("give an ID and an OUTCOME, or --input FILE")
	}
	from := c.InOrStdin()
	if input != "-" {
		file, err := os.Open(input)
		if err != nil {
			return nil, "", fmt.Errorf("reading outcomes: %w", err)
		}
		defer file.Close()
		from = file
	}
	if body, err = io.ReadAll(io.LimitReader(from, maxTruthFile+1)); err != nil {
		return nil, "", fmt.Errorf("reading outcomes: %w", err)
	}
	if len(body) > maxTruthFile {
		return nil, "", fmt.Errorf("reading outcomes: %s is larger than %d bytes, send it in parts", input, maxTruthFile)
	}
	if strings.HasSuffix(strings.ToLower(input), ".csv") {
		return body, "text/csv", nil
	}
	return body, asJSON, nil
}

// tellTruth asks the daemon to keep outcomes, and returns how many it has.
func tellTruth(ctx context.Context, flags *daemonFlags, model string, body []byte, kind string) (int, error) {
	d, err := flags.dialTo("oip.sock")
	if err != nil {
		return 0, err
	}
	defer d.Close()
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.connect(ctx, "") }}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://picketd/v2/models/"+url.PathEscape(model)+"/truth", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", kind)
	response, err := (&http.Client{Transport: transport}).Do(request)
	if errors.Is(err, context.DeadlineExceeded) {
		return 0, fmt.Errorf("telling outcomes: %s", d.late())
	}
	if err != nil {
		return 0, d.unreachable("telling outcomes", err.Error())
	}
	defer response.Body.Close()
	const enough = 64 << 10
	said, err := io.ReadAll(io.LimitReader(response.Body, enough))
	if err != nil {
		return 0, fmt.Errorf("telling outcomes: %w", err)
	}
	var answer struct {
		Accepted int    `json:"accepted"`
		Error    string `json:"error"`
	}
	if err := json.Unmarshal(said, &answer); err != nil || response.StatusCode != http.StatusOK {
		if answer.Error == "" {
			answer.Error = response.Status
		}
		return 0, fmt.Errorf("telling outcomes: %s", printable(oneLine(answer.Error)))
	}
	return answer.Accepted, nil
}
