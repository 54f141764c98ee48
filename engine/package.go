package engine

import (
	"context"
	"fmt"
)

// Package is what a Source knows of the package that an Artifact is a part of. It does not change.
type Package struct {
	// Name and Version are the package's own.
	Name, Version string
	// Digest stands for all that is in it: "sha256:" and hexadecimal digits. Empty where nobody took one.
	Digest string
	// Signer is who signed it, for people; empty for nobody who was checked.
	Signer string
	// Variants are the builds in the package, the most wanted first. The Artifact is the chosen one.
	Variants []Variant
	// Signature is what the package says that its model takes and gives; nil where it does not say.
	Signature *Signature
	// Warmup are rows with the answers to them; nil for none.
	Warmup *Warmup
	// Statistics say what the model was trained on, as a Source has found them; the engine does not look at them. Nil for
	// nothing.
	Statistics []byte
	// Accept is called once the model has proved to be what its package says, just before it becomes visible. Where it
	// fails the model is not loaded. Nil for nothing to do.
	Accept func() error
}

// Variant is one build in a package.
type Variant struct {
	Name   string
	Chosen bool
	Reason string // why, or why not, in a sentence
}

// Warmup are rows for a model and the answers expected to them.
type Warmup struct {
	Rows int
	// Data are the input tensors in the order of the Signature, then the outputs, each with Rows rows if it has rows,
	// little endian, nothing between them.
	Data []byte
}

// prove runs the package's rows and fails where the model takes, gives or answers anything else than the package says.
func (s *Snapshot) prove(ctx context.Context, p *Package) error {
	if p == nil {
		return nil
	}
	if p.Signature != nil && !p.Signature.Equal(s.signature) {
		return fmt.Errorf("%w: the model takes or gives other tensors than its package says", ErrArtifact)
	}
	if p.Warmup == nil {
		return nil
	}
	r, err := s.NewRequest(p.Warmup.Rows)
	if err != nil {
		return fmt.Errorf("%w: the warm-up rows of the package do not fit the model: %w", ErrArtifact, err)
	}
	defer r.Release()
	data := p.Warmup.Data
	for _, t := range r.Inputs {
		n := copy(t.Bytes(), data)
		if n < t.Size() {
			return fmt.Errorf("%w: the package has fewer warm-up rows than it says", ErrArtifact)
		}
		data = data[n:]
	}
	want, err := newTensors(s.signature.Outputs, p.Warmup.Rows)
	if err != nil {
		return err
	}
	defer releaseAll(want)
	for _, t := range want {
		n := copy(t.Bytes(), data)
		if n < t.Size() {
			return fmt.Errorf("%w: the package has fewer expected answers than it says", ErrArtifact)
		}
		data = data[n:]
	}
	if len(data) > 0 {
		return fmt.Errorf("%w: the package has more warm-up rows than it says", ErrArtifact)
	}
	r.arrived = clock()
	if _, err := r.predict(ctx); err != nil { // not Predict: no client asked for it, so it is not counted
		return fmt.Errorf("running the warm-up rows of the package: %w", err)
	}
	if differs := difference(r.Outputs, want, s.signature.Outputs, p.Warmup.Rows); differs != "" {
		return fmt.Errorf("%w: on this host the model, run by %s, does not give the answers that its package expects to its warm-up rows: %s; build the package again, or find out what differs between the hosts",
			ErrArtifact, s.description.Backend, differs)
	}
	return nil
}

// accept tells the Source of the package that its model will serve.
func (e *Engine) accept(s *Snapshot, p *Package) error {
	if p == nil || p.Accept == nil {
		return nil
	}
	// What publish would find. Nobody else changes the name to another model: it is reserved.
	if old := (*e.models.Load())[s.name]; old != nil && !old.signature.Equal(s.signature) {
		return fmt.Errorf("%w from that of the model it was to replace", ErrSignature)
	}
	return p.Accept()
}
