package pipeline

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Channels of a dataset, as SageMaker and scripts call them.
const (
	channelTrain      = "train"
	channelValidation = "validation"
)

// rowsOf is a channel's files.
type rowsOf struct {
	Channel string `json:"channel"`
	Path    string `json:"path"` // on this machine: a file or a folder
	Digest  string `json:"digest"`
	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"`
	URI     string `json:"uri,omitempty"` // in S3

	files []file
}

// data is the dataset as later steps see it.
type data struct {
	Digest   string   `json:"digest"`
	Channels []rowsOf `json:"channels"`
	// Features is how many columns a row has without the label; 0 where nobody has counted.
	Features int `json:"features"`
}

const (
	stepDataset = "dataset"
	// inventoryFile says that the dataset beside it is complete.
	inventoryFile = "files.json"
)

// readData looks at the dataset: which files there are, and what they hold. known has digests of earlier.
func readData(ctx context.Context, s *Spec, known map[string]seen) (*data, error) {
	d := &data{Features: s.Dataset.Features}
	whole := sha256.New()
	for _, c := range []rowsOf{{Channel: channelTrain, Path: s.Dataset.Train}, {Channel: channelValidation, Path: s.Dataset.Validation}} {
		if c.Path == "" {
			continue
		}
		var err error
		if c.files, err = listFiles(c.Path); err == nil {
			err = digestFiles(ctx, c.files, known)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the dataset's rows for %s in %s: %w", c.Channel, c.Path, err)
		}
		c.Digest, c.Files, c.Bytes = digestOf(c.files), len(c.files), sumBytes(c.files)
		fmt.Fprintf(whole, "%s\x00%s\n", c.Channel, c.Digest)
		d.Channels = append(d.Channels, c)
	}
	d.Digest = hex.EncodeToString(whole.Sum(nil))
	if s.Dataset.Format == "csv" {
		return d, d.readHeads(s.Training.Source == "")
	}
	return d, nil
}

// readHeads reads the first line of every file: all have as many columns, and where the built-in algorithm will read them,
// which takes a header for a row, they begin with numbers.
func (d *data) readHeads(numbers bool) error {
	columns, first := 0, ""
	for _, c := range d.Channels {
		for _, f := range c.files {
			fields, err := firstLine(f.from)
			if err != nil {
				return fmt.Errorf("reading the dataset: %s: %w", f.from, err)
			}
			if columns == 0 {
				columns, first = len(fields), f.from
			}
			if len(fields) != columns {
				return fmt.Errorf("reading the dataset: %s has %d columns and %s has %d", f.from, len(fields), first, columns)
			}
			for i, field := range fields {
				if _, err := strconv.ParseFloat(strings.TrimSpace(field), 64); err != nil && strings.TrimSpace(field) != "" && numbers {
					return fmt.Errorf("reading the dataset: %s has %.40q in column %d of its first line: the built-in algorithm takes numbers, the label first, and no header", f.from, field, i+1)
				}
			}
		}
	}
	if d.Features == 0 {
		d.Features = columns - 1
	}
	return nil
}

// maxLine bounds the first line of a file.
const maxLine = 16 << 20

func firstLine(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, maxLine)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 {
		return nil, errors.New("its first line is empty")
	}
	if len(line) == maxLine {
		return nil, fmt.Errorf("its first line has more than %d bytes; is it CSV?", maxLine)
	}
	return strings.Split(string(line), ","), nil
}

// place says where the dataset lies in S3: below its own digest, so that what is there is never another one's.
func (d *data) place(s *Spec) {
	for i := range d.Channels {
		d.Channels[i].URI = s.root().below("datasets", d.Digest, d.Channels[i].Channel).String() + "/"
	}
}

// root is the prefix that the pipeline has in S3.
func (s *Spec) root() location {
	return location{bucket: s.Bucket.Name}.below(s.Bucket.Prefix, s.Name)
}

// inventory is what is written beside the dataset when all of it is there.
func (d *data) inventory(s *Spec) (location, []byte, error) {
	list := map[string][]file{}
	for _, c := range d.Channels {
		list[c.Channel] = c.files
	}
	text, err := json.MarshalIndent(list, "", " ")
	return s.root().below("datasets", d.Digest, inventoryFile), append(text, '\n'), err
}

// uploads are the objects of the dataset.
func (d *data) uploads(s *Spec) (to []location, files []file) {
	for _, c := range d.Channels {
		for _, f := range c.files {
			to = append(to, s.root().below("datasets", d.Digest, c.Channel, f.Path))
			files = append(files, f)
		}
	}
	return to, files
}

// dataset reads the dataset and uploads it where it is new.
func (r *run) dataset(ctx context.Context) (*data, error) {
	known := r.journal.seen()
	d, err := readData(ctx, r.spec, known)
	if err != nil {
		return nil, err
	}
	r.journal.remember(known)
	if r.options.Local {
		result := *d
		return d, r.step(ctx, stepDataset, d, &result, nil, func(context.Context, *record) error { return nil })
	}
	d.place(r.spec)
	at, text, err := d.inventory(r.spec)
	if err != nil {
		return nil, err
	}
	result := *d
	there := func() bool {
		has, err := r.stored(ctx, at)
		return has || err != nil // who cannot be asked has not said no
	}
	return d, r.step(ctx, stepDataset, d, &result, there, func(ctx context.Context, _ *record) error {
		return r.upload(ctx, d, at, text)
	})
}

// uploadsAtOnce are files on their way together.
const uploadsAtOnce = 4

func (r *run) upload(ctx context.Context, d *data, at location, inventory []byte) error {
	if has, err := r.stored(ctx, at); err == nil && has {
		r.tell(stepDataset, Working, "it is in S3 already, at "+at.String())
		return nil
	}
	to, files := d.uploads(r.spec)
	together, all := errgroup.WithContext(ctx)
	together.SetLimit(uploadsAtOnce)
	for i := range files {
		together.Go(func() error { return r.store(all, stepDataset, files[i], to[i]) })
	}
	if err := together.Wait(); err != nil {
		return err
	}
	return r.storeBytes(ctx, stepDataset, inventoryFile, inventory, at)
}
