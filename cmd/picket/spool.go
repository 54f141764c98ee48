package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/spool"
	"github.com/picket-ml/picket/internal/durable"
)

// defaultSpool is where a daemon with that state directory has it.
const defaultSpool = defaultState + "/capture"

// spoolFlags say which spool is meant.
type spoolFlags struct {
	config, identity string
}

func newSpool() *cobra.Command {
	c := &cobra.Command{
		Use:   "spool",
		Short: "Look at the capture spool, check it, and empty it",
		Long: `Look at the spool in which picketd keeps captured records, check it, and empty
it. DIR is the spool's directory; without it, it is the one in --config, or
` + defaultSpool + `. ls, cat and verify may be used while the daemon runs,
and change nothing; drain needs the spool for itself.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f := &spoolFlags{}
	c.PersistentFlags().StringVarP(&f.config, "config", "c", "", "the daemon's configuration `FILE`, for the spool's directory and identity")
	c.PersistentFlags().StringVar(&f.identity, "identity", "", "a `FILE` with the private keys of age for which the spool is encrypted, a line each")
	c.AddCommand(newSpoolLs(f), newSpoolCat(f), newSpoolVerify(f), newSpoolDrain(f))
	return c
}

// open opens the spool that is meant.
func (f *spoolFlags) open(args []string, readOnly bool) (*spool.Spool, error) {
	o := spool.Options{Dir: defaultSpool, ReadOnly: readOnly}
	if f.config != "" {
		c, err := readDaemonConfig(f.config, "")
		if err != nil {
			return nil, err
		}
		o.Dir = c.Capture.Directory(c.StateDir)
		if f.identity == "" {
			f.identity = c.Capture.Identity
		}
	}
	if len(args) > 0 {
		o.Dir = args[0]
	}
	if f.identity != "" {
		file, err := os.Open(f.identity)
		if err != nil {
			return nil, fmt.Errorf("reading the identity: %w", err)
		}
		defer file.Close()
		if o.Identities, err = age.ParseIdentities(file); err != nil {
			return nil, fmt.Errorf("reading the identity in %s: %w", f.identity, err)
		}
	}
	if there, err := spool.Exists(o.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	} else if !there {
		return nil, fmt.Errorf("opening the capture spool: there is none in %s; name its directory, or the daemon's --config", o.Dir)
	}
	s, err := spool.Open(o)
	if errors.Is(err, spool.ErrOwned) {
		return nil, fmt.Errorf("%w: stop the daemon that uses %s first", err, o.Dir)
	}
	return s, err
}

// spoolSegment is one line of `picket spool ls --json`.
type spoolSegment struct {
	Number  uint64    `json:"number"`
	First   uint64    `json:"first"`
	Records int64     `json:"records"`
	Bytes   int64     `json:"bytes"`
	Made    time.Time `json:"made"`
	Sealed  time.Time `json:"sealed"`
}

func newSpoolLs(f *spoolFlags) *cobra.Command {
	c := &cobra.Command{
		Use:     "ls [DIR]",
		Short:   "List the segments that wait, and what was set aside",
		Example: `  picket spool ls /var/lib/picket/capture`,
		Args:    cobra.MaximumNArgs(1),
	}
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		s, err := f.open(args, true)
		if err != nil {
			return err
		}
		defer s.Close()
		all := []spoolSegment{}
		for _, g := range s.Segments() {
			all = append(all, spoolSegment{g.Number, g.First, g.Records, g.Bytes, g.Made, g.Sealed})
		}
		bad := s.Quarantined()
		if *asJSON {
			files := []string{}
			for _, b := range bad {
				files = append(files, b.Name)
			}
			return writeJSON(c.OutOrStdout(), struct {
				Segments    []spoolSegment `json:"segments"`
				Quarantined []string       `json:"quarantined"`
			}{all, files})
		}
		if len(all) == 0 {
			fmt.Fprintln(c.OutOrStdout(), "nothing waits")
		} else {
			table := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "SEGMENT\tFIRST\tRECORDS\tBYTES\tFROM\tTO")
			for _, g := range all {
				fmt.Fprintf(table, "%d\t%d\t%d\t%d\t%s\t%s\n", g.Number, g.First, g.Records, g.Bytes, g.Made.Format(time.RFC3339), g.Sealed.Format(time.RFC3339))
			}
			if err := table.Flush(); err != nil {
				return fmt.Errorf("writing the list: %w", err)
			}
		}
		for _, b := range bad {
			fmt.Fprintf(c.OutOrStdout(), "set aside: %s, %d damaged bytes\n", b.Name, b.Size)
		}
		return nil
	})
	return c
}

func newSpoolCat(f *spoolFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "cat [DIR]",
		Short: "Print the records that wait, a line of JSON each",
		Long: `Print the records that wait, oldest first, a line of JSON each. The bytes of
tensors are base64, as they are in memory: row by row, little endian. What is
damaged, and segments that no identity opens, are passed by and said on standard
error; the exit code is then 1.`,
		Example: `  picket spool cat /var/lib/picket/capture
  picket spool cat --config /etc/picket/picketd.yaml --identity age.key`,
		Args: cobra.MaximumNArgs(1),
	}
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		s, err := f.open(args, true)
		if err != nil {
			return err
		}
		defer s.Close()
		damaged, closed := false, 0
		for _, g := range s.Segments() {
			bad, err := writeRecords(s, g, c.OutOrStdout(), c.ErrOrStderr())
			switch {
			case errors.Is(err, spool.ErrKey):
				fmt.Fprintf(c.ErrOrStderr(), "picket: segment %d of %d records, from %s, is passed by: %v\n", g.Number, g.Records, g.Made.Format(time.RFC3339), spool.ErrKey)
				closed++
			case err != nil:
				return err
			}
			damaged = damaged || bad
		}
		return errors.Join(unopened(closed, len(f.identity) > 0), damagedAbove(damaged))
	})
	return c
}

// unopened is the failure of a command that could not read so many segments for want of a key.
func unopened(segments int, given bool) error {
	switch {
	case segments == 0:
		return nil
	case given:
		return fmt.Errorf("reading the capture spool: segments that none of the identities opens: %d; give --identity a file that has those of all recipients, a line each", segments)
	}
	return fmt.Errorf("reading the capture spool: segments that are encrypted: %d; give --identity the file of a private key, or --config a configuration that names one", segments)
}

// damagedAbove is the failure of a command that has said what is damaged.
func damagedAbove(damaged bool) error {
	if !damaged {
		return nil
	}
	return errors.New("reading the capture spool: some of it is damaged, as was said above")
}

// writeRecords writes the records of a segment, a line each, and tells whether
// something of it is damaged.
func writeRecords(s *spool.Spool, g spool.Segment, w, complain io.Writer) (damaged bool, err error) {
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	for batch, err := range s.Batches(g) {
		switch {
		case errors.Is(err, spool.ErrGone):
			return damaged, nil // a daemon that runs has taken it away
		case errors.Is(err, spool.ErrDamaged):
			damaged = true
			fmt.Fprintf(complain, "picket: %v\n", err)
		case err != nil:
			return damaged, err
		}
		if batch == nil {
			continue
		}
		for i := range batch.Records {
			line, err := recordLine(s, &batch.Records[i])
			if err != nil {
				damaged = true
				fmt.Fprintf(complain, "picket: %v\n", err)
			}
			if err := lines.Encode(line); err != nil {
				return damaged, fmt.Errorf("writing records: %w", err)
			}
		}
	}
	return damaged, nil
}

// spoolRecord is a record as JSON.
type spoolRecord struct {
	ID         string         `json:"id"`
	Inference  string         `json:"inference,omitempty"`
	Time       time.Time      `json:"time"`
	Model      string         `json:"model"`
	Version    string         `json:"version,omitempty"`
	Kind       string         `json:"kind"`
	Why        string         `json:"why,omitempty"`
	Rows       int            `json:"rows,omitempty"`
	Code       uint32         `json:"code,omitempty"`
	Error      string         `json:"error,omitempty"`
	Inputs     []spoolTensor  `json:"inputs,omitempty"`
	Outputs    []spoolTensor  `json:"outputs,omitempty"`
	AuxInputs  []spoolPayload `json:"auxiliary_inputs,omitempty"`
	AuxOutputs []spoolPayload `json:"auxiliary_outputs,omitempty"`
}

type spoolTensor struct {
	Name  string  `json:"name"`
	Type  string  `json:"type"`
	Shape []int64 `json:"shape"`
	Data  []byte  `json:"data"`
}

type spoolPayload struct {
	Name     string `json:"name"`
	Encoding string `json:"encoding"`
	Data     []byte `json:"data"`
}

// recordLine is r with what lies beside it. After an error it lacks that.
func recordLine(s *spool.Spool, r *capture.Record) (*spoolRecord, error) {
	out := &spoolRecord{
		ID: r.ID.String(), Inference: r.Inference, Time: r.Time, Model: r.Model, Version: r.Version, Kind: r.Kind.String(), Why: r.Why.String(),
		Rows: r.Rows, Code: r.Code, Error: r.Error,
	}
	var failed error
	bytesOf := func(data []byte, at *capture.Beside) []byte {
		if at == nil {
			return data
		}
		data, err := s.Beside(at)
		failed = errors.Join(failed, err)
		return data
	}
	for _, side := range []struct {
		from []capture.Tensor
		to   *[]spoolTensor
	}{{r.Inputs, &out.Inputs}, {r.Outputs, &out.Outputs}} {
		for _, t := range side.from {
			*side.to = append(*side.to, spoolTensor{t.Name, t.DType.String(), t.Shape, bytesOf(t.Data, t.Beside)})
		}
	}
	for _, side := range []struct {
		from []capture.Payload
		to   *[]spoolPayload
	}{{r.AuxInputs, &out.AuxInputs}, {r.AuxOutputs, &out.AuxOutputs}} {
		for _, p := range side.from {
			*side.to = append(*side.to, spoolPayload{p.Name, p.Encoding.String(), bytesOf(p.Data, p.Beside)})
		}
	}
	return out, failed
}

// spoolAccounts is what `picket spool verify --json` prints.
type spoolAccounts struct {
	Directory   string        `json:"directory"`
	OK          bool          `json:"ok"`
	Accepted    int64         `json:"accepted"`
	Uploaded    int64         `json:"uploaded"`
	OnDisk      int64         `json:"on_disk"`
	Dropped     int64         `json:"dropped"`
	DroppedBy   spool.Dropped `json:"dropped_by"`
	Quarantined int64         `json:"quarantined"`
	Segments    int           `json:"segments"`
	Bytes       int64         `json:"bytes"`
	Unopened    int           `json:"unopened_segments"`
	Problems    []string      `json:"problems"`
}

// maxProblems bounds what is said of a spool that is full of damage.
const maxProblems = 100

func newSpoolVerify(f *spoolFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "verify [DIR]",
		Short: "Read all that is there, and add up what became of every record",
		Long: `Read every byte of the spool, check it, and add up what became of every record
that was ever accepted: accepted = uploaded + on_disk + dropped + quarantined.
Exit code 1 says that something is damaged, or is encrypted and no identity
opens it.`,
		Example: `  picket spool verify /var/lib/picket/capture --json`,
		Args:    cobra.MaximumNArgs(1),
	}
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		a, moved, err := verifySpool(f, args)
		for tries := 1; moved && err == nil && tries < verifyTries; tries++ {
			a, moved, err = verifySpool(f, args)
		}
		if err != nil {
			return err
		}
		if *asJSON {
			if err := writeJSON(c.OutOrStdout(), a); err != nil {
				return err
			}
		} else {
			fmt.Fprintf(c.OutOrStdout(), "%s: %d records accepted\n  uploaded     %d\n  on disk      %d, in %d segments, %d bytes\n  dropped      %d (quota %d, age %d, policy %d, lost %d)\n  quarantined  %d\n",
				a.Directory, a.Accepted, a.Uploaded, a.OnDisk, a.Segments, a.Bytes, a.Dropped, a.DroppedBy.Quota, a.DroppedBy.Age, a.DroppedBy.Policy, a.DroppedBy.Lost, a.Quarantined)
			for _, p := range a.Problems {
				fmt.Fprintf(c.OutOrStdout(), "  problem      %s\n", p)
			}
		}
		if len(a.Problems) > 0 {
			return errors.Join(unopened(a.Unopened, len(f.identity) > 0), fmt.Errorf("verifying the capture spool %s: something is damaged; what is whole can still be read", a.Directory))
		}
		return unopened(a.Unopened, len(f.identity) > 0)
	})
	return c
}

// verifyTries is how often a spool is looked at whose daemon takes files away meanwhile.
const verifyTries = 10

// verifySpool looks at the spool once. moved says that a file went while it did.
func verifySpool(f *spoolFlags, args []string) (a spoolAccounts, moved bool, err error) {
	s, err := f.open(args, true)
	if err != nil {
		return a, false, err
	}
	defer s.Close()
	problems, closed := []string{}, 0
	st := s.Verify(func(err error) {
		moved = moved || errors.Is(err, fs.ErrNotExist)
		switch {
		case errors.Is(err, spool.ErrKey):
			closed++
		case len(problems) < maxProblems:
			problems = append(problems, err.Error())
		}
	})
	return spoolAccounts{
		s.Directory(), len(problems)+closed == 0, st.Accepted, st.Uploaded, st.OnDisk, st.Dropped.Total(), st.Dropped, st.Quarantined, st.Segments, st.Bytes, closed, problems,
	}, moved, nil
}

func newSpoolDrain(f *spoolFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "drain [DIR] --to FILE",
		Short: "Move all records to a file, and empty the spool",
		Long: `Move all records to FILE, a line of JSON each as cat prints them, and empty the
spool. A segment is deleted when its records are durable in FILE, and they count
as uploaded; after an interruption the same command goes on, and FILE may then
have a segment's records twice, with the same ids. It stops at a segment that no
identity opens. The daemon must not run; run this as its user, whose spool it
is.`,
		Example: `  runuser -u picket -- picket spool drain --to /var/lib/picket/records.jsonl`,
		Args:    cobra.MaximumNArgs(1),
	}
	to := c.Flags().String("to", "", "the `FILE`, which is made or added to")
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		if *to == "" {
			return usage("say where the records go: --to FILE")
		}
		s, err := f.open(args, false)
		if err != nil {
			return err
		}
		moved, err := drain(s, *to, c.ErrOrStderr())
		if errors.Is(err, spool.ErrKey) {
			err = fmt.Errorf("%w; %d records were moved, and what follows is still there: give --identity a file that has the private keys of all recipients, a line each", err, moved)
		}
		if err = errors.Join(err, s.Close()); err != nil {
			return fmt.Errorf("draining the capture spool: %w", err)
		}
		fmt.Fprintf(c.OutOrStdout(), "moved %d records to %s\n", moved, *to)
		return nil
	})
	return c
}

func drain(s *spool.Spool, to string, complain io.Writer) (moved int64, err error) {
	file, err := os.OpenFile(to, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	// A file that was just made is on disk when its folder is, too.
	if err := durable.SyncFolder(filepath.Dir(to)); err != nil {
		return 0, fmt.Errorf("making %s durable: %w", to, err)
	}
	before := s.Stats().Uploaded
	for _, g := range s.Segments() {
		if _, err := writeRecords(s, g, file, complain); err != nil {
			return moved, err
		}
		if err := file.Sync(); err != nil {
			return moved, fmt.Errorf("making %s durable: %w", to, err)
		}
		if err := s.Acknowledge(g.Number, spool.Outcome{}); err != nil {
			return moved, err
		}
		moved = s.Stats().Uploaded - before
	}
	return moved, nil
}
