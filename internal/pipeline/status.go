package pipeline

import (
	"cmp"
	"slices"
	"time"
)

// Status is what is on record of a pipeline.
type Status struct {
	Pipeline string       `json:"pipeline"`
	Version  string       `json:"version"`
	Mode     string       `json:"mode"` // "aws" or "local"
	Folder   string       `json:"folder"`
	Running  bool         `json:"running"` // by a process of this machine, now
	Steps    []StepStatus `json:"steps"`
}

// StepStatus is what is on record of a step. Where State is "running" and Running is not, the run was killed there.
type StepStatus struct {
	Step  string    `json:"step"`
	State string    `json:"state"` // "running", "done", "failed" or "interrupted"
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended,omitzero"`
	Error string    `json:"error,omitempty"`
	Job   string    `json:"job,omitempty"`
}

// Look reads the record of the pipeline in the file. It asks nobody and may be called while the pipeline runs.
func Look(path string, o Options) (*Status, error) {
	spec, err := Load(path)
	if err != nil {
		return nil, err
	}
	work, err := workFolder(spec, path, o)
	if err != nil {
		return nil, err
	}
	state, err := readState(work, spec.Name)
	if err != nil {
		return nil, err
	}
	s := &Status{Pipeline: spec.Name, Version: spec.Version, Mode: mode(o.Local), Folder: work, Running: isLocked(work), Steps: []StepStatus{}}
	for name, rec := range state.Steps {
		step := StepStatus{Step: name, State: rec.State, Began: rec.Began, Ended: rec.Ended, Error: rec.Error}
		if rec.Job != nil {
			step.Job = rec.Job.Name
		}
		s.Steps = append(s.Steps, step)
	}
	slices.SortFunc(s.Steps, func(a, b StepStatus) int {
		return cmp.Or(cmp.Compare(order(a.Step), order(b.Step)), cmp.Compare(a.Step, b.Step))
	})
	return s, nil
}

// order is where a step stands in a run.
func order(step string) int {
	steps := []string{stepDataset, stepSource, stepEnvironment, stepTrain, stepModel, "compile", stepBaseline, stepPackage, stepSign, stepPlace, stepPush}
	for i, name := range steps {
		if step == name {
			return i
		}
	}
	return slices.Index(steps, "compile")
}
