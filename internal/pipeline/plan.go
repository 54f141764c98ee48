package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/picket-ml/picket/packaging"
)

// Planned is one thing that a run would do.
type Planned struct {
	Step string `json:"step"`
	// Kept says that the record has the step as done, and that it would be kept if what it is made from stays.
	Recorded bool   `json:"recorded"`
	What     string `json:"what"`
	// Object is what would be written to S3, with Bytes; Operation is what would be asked of SageMaker, and Request the
	// body, byte by byte.
	Object    string          `json:"object,omitempty"`
	Bytes     int64           `json:"bytes,omitempty"`
	Operation string          `json:"operation,omitempty"`
	Endpoint  string          `json:"endpoint,omitempty"`
	Request   json.RawMessage `json:"request,omitempty"`
}

// Plan tells what Run would do, in order. It reads files of this machine, asks nobody and changes nothing.
func Plan(ctx context.Context, path string, o Options) ([]Planned, error) {
	spec, err := Load(path)
	if err != nil {
		return nil, err
	}
	r, err := newRun(spec, path, o)
	if err != nil {
		return nil, err
	}
	state, err := readState(r.work, spec.Name)
	if err != nil {
		return nil, err
	}
	d, err := readData(ctx, spec, state.Seen)
	if err != nil {
		return nil, err
	}
	p := &planner{run: r, state: state}
	if o.Local {
		err = p.here(d)
	} else {
		err = p.there(ctx, d)
	}
	return p.list, err
}

// planner collects what a run would do.
type planner struct {
	*run
	state stateDocument
	list  []Planned
}

func (p *planner) add(step, format string, args ...any) *Planned {
	rec := p.state.Steps[step]
	p.list = append(p.list, Planned{Step: step, What: fmt.Sprintf(format, args...), Recorded: rec != nil && rec.State == stateDone})
	return &p.list[len(p.list)-1]
}

func (p *planner) object(step string, at location, bytes int64, what string) {
	item := p.add(step, "%s", what)
	item.Object, item.Bytes = at.String(), bytes
}

// job adds the start of a job, and gives its name.
func (p *planner) job(step string, k *jobKind) (string, error) {
	name, _, err := k.next(p.spec, p.state.Steps[step])
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(k.request(name))
	if err != nil {
		return "", fmt.Errorf("writing the request %s: %w", k.create, err)
	}
	item := p.add(step, "start the %s %s, unless it is there, and wait for it", k.noun, name)
	item.Operation, item.Request = k.create, body
	item.Endpoint = serviceEndpoint(p.spec.AWS.Region, p.spec.SageMaker.Endpoint)
	return name, nil
}

func (p *planner) here(d *data) error {
	t := &p.spec.Training
	for _, c := range d.Channels {
		p.add(stepDataset, "read %d files, %d bytes, in %s as %s", c.Files, c.Bytes, c.Path, c.Channel)
	}
	p.add(stepEnvironment, "make a virtual environment with %s in %s, and install %s there", t.Python, p.path("venv"), filepath.Join(t.Source, requirementsFile))
	p.add(stepTrain, "run %s in it", filepath.Join(t.Source, t.Script))
	return p.rest(d, "")
}

func (p *planner) there(ctx context.Context, d *data) error {
	d.place(p.spec)
	to, files := d.uploads(p.spec)
	for i := range files {
		p.object(stepDataset, to[i], files[i].Size, "upload "+files[i].from)
	}
	at, text, err := d.inventory(p.spec)
	if err != nil {
		return err
	}
	p.object(stepDataset, at, int64(len(text)), "write the list of what was uploaded")
	program, err := programOf(ctx, p.spec)
	if err != nil {
		return err
	}
	if program != nil {
		packed, err := sourceArchive(program.files)
		if err != nil {
			return fmt.Errorf("packing the training program: %w", err)
		}
		p.object(stepSource, program.object, int64(len(packed)), "upload the training program in "+p.spec.Training.Source)
	}
	kind, err := p.spec.trainingJob(d, program)
	if err != nil {
		return err
	}
	name, err := p.job(stepTrain, kind)
	if err != nil {
		return err
	}
	uri := p.spec.root().below("training", name, "output", "model.tar.gz").String()
	p.add(stepModel, "take the model from %s", uri)
	return p.rest(d, uri)
}

// rest is what follows training.
func (p *planner) rest(d *data, uri string) error {
	s := p.spec
	for _, t := range p.targets() {
		if t.With == withLocal {
			p.add(stepCompile(&t), "compile the model on this machine for %s, engine %s", t.Target, t.Engine)
			continue
		}
		kind, err := s.compilationJob(d, uri, &t)
		if err != nil {
			return fmt.Errorf("%s: %w", stepCompile(&t), err)
		}
		if _, err := p.job(stepCompile(&t), kind); err != nil {
			return err
		}
	}
	if s.Baseline.Enabled {
		p.add(stepBaseline, "compute the baseline of the training set")
	}
	name := packaging.FileName(s.Name, s.Version)
	warmup := "without warm-up rows"
	if s.Package.Warmup {
		warmup = "with warm-up rows and the answers to them"
	}
	p.add(stepPackage, "pack %s, %s", name, warmup)
	to := filepath.Join(s.Package.Directory, name)
	if s.Sign.Key != "" {
		p.add(stepSign, "sign it with %s, to %s", s.Sign.Key, to)
	} else {
		p.add(stepPlace, "put it to %s, not signed", to)
	}
	if p.options.Local {
		return nil
	}
	at, err := s.packages()
	if err != nil {
		return err
	}
	p.object(stepPush, at.below(name), 0, "push it, unless that version is there")
	return nil
}
