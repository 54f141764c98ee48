package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/picket-ml/picket/internal/assemble"
	"github.com/picket-ml/picket/packaging"
	"github.com/picket-ml/picket/packaging/compile"
)

// build is the model compiled for one target: an artifact's folder.
type build struct {
	Variant string `json:"variant"`
	Dir     string `json:"dir"` // below the run's folder
	Digest  string `json:"digest"`
	// Job is the one that compiled it at SageMaker, URI what it left.
	Job string `json:"job,omitempty"`
	URI string `json:"uri,omitempty"`

	needs string
}

func stepCompile(t *Target) string { return "compile " + t.Variant }

// compile compiles the model for every target. Jobs at SageMaker run side by side, and beside what is compiled here; one
// that fails does not keep the others from ending.
func (r *run) compile(ctx context.Context, d *data, m model) ([]build, error) {
	targets := r.targets()
	builds, failed := make([]build, len(targets)), make([]error, len(targets))
	var waiting sync.WaitGroup
	for i := range targets {
		if targets[i].With == withNeo {
			waiting.Go(func() { builds[i], failed[i] = r.compileThere(ctx, d, m, &targets[i]) })
		}
	}
	for i := range targets {
		if targets[i].With == withLocal {
			builds[i], failed[i] = r.compileHere(ctx, m, &targets[i])
		}
	}
	waiting.Wait()
	for i := range targets {
		builds[i].needs = targets[i].Needs
	}
	return builds, errors.Join(failed...)
}

// whole tells whether the folder is the one on record.
func (b *build) whole(ctx context.Context, r *run) bool {
	digest, err := digestFolder(ctx, r.path(b.Dir))
	return err == nil && digest == b.Digest
}

// compileHere compiles with this machine's compiler, as picket compile does.
func (r *run) compileHere(ctx context.Context, m model, t *Target) (build, error) {
	step, dir := stepCompile(t), filepath.Join("compiled", t.Variant)
	b := build{Variant: t.Variant, Dir: dir}
	if m.File == "" {
		return b, fmt.Errorf("%s: the model is not one of trees, which is all that is compiled here", step)
	}
	from := map[string]string{"model": m.SHA256, "target": t.Target, "engine": t.Engine}
	err := r.step(ctx, step, from, &b, func() bool { return b.whole(ctx, r) }, func(ctx context.Context, _ *record) error {
		out, err := r.fresh(dir)
		if err != nil {
			return err
		}
		if err := os.Remove(out); err != nil { // the compiler makes it
			return fmt.Errorf("making a folder: %w", err)
		}
		engines := assemble.Engines()
		o := compile.Options{
			Source: r.path(m.File), Out: out, Target: t.Target,
			Engine: engines[slices.IndexFunc(engines, func(e compile.Engine) bool { return e.Name == t.Engine })],
			Progress: func(done, total int, what string) {
				r.tell(step, Working, fmt.Sprintf("%d of %d: %s", done, total, what))
			},
		}
		if _, err := compile.Run(ctx, o); err != nil {
			return err
		}
		if _, err := r.keep(dir); err != nil {
			return err
		}
		b.Digest, err = digestFolder(ctx, r.path(dir))
		return err
	})
	return b, err
}

// compileThere has Neo compile.
func (r *run) compileThere(ctx context.Context, d *data, m model, t *Target) (build, error) {
	step, dir := stepCompile(t), filepath.Join("compiled", t.Variant)
	b := build{Variant: t.Variant, Dir: dir}
	if m.Features != 0 && t.Input == "" && m.Features != d.Features {
		return b, fmt.Errorf("%s: the model takes %d features, and the dataset has %d columns beside the label: give dataset.features: %d", step, m.Features, d.Features, m.Features)
	}
	kind, err := r.spec.compilationJob(d, m.URI, t)
	if err != nil {
		return b, fmt.Errorf("%s: %w", step, err)
	}
	err = r.step(ctx, step, kind.request(""), &b, func() bool { return b.whole(ctx, r) }, func(ctx context.Context, rec *record) error {
		status, err := r.job(ctx, step, rec, kind)
		if err != nil {
			return err
		}
		b.Job, b.URI = rec.Job.Name, status.ModelArtifacts.S3ModelArtifacts
		if !strings.HasSuffix(b.URI, ".tar.gz") { // the location, and not the object in it
			b.URI = strings.TrimSuffix(b.URI, "/") + "/" + t.archive()
		}
		if err := r.takeArchive(ctx, step, b.URI, dir); err != nil {
			return err
		}
		b.Digest, err = digestFolder(ctx, r.path(dir))
		return err
	})
	return b, err
}

// archive is what Neo calls what it makes for a target.
func (t *Target) archive() string {
	return "model-" + strings.ReplaceAll(t.Device+t.Platform, "/", "_") + ".tar.gz"
}

// compilationJob is the job that compiles the model at uri for a target.
func (s *Spec) compilationJob(d *data, uri string, t *Target) (*jobKind, error) {
	input := t.Input
	if input == "" {
		if d.Features == 0 {
			return nil, errors.New("how many features a row has is not known, and Neo wants to know it: give dataset.features, or compile.input")
		}
		input = fmt.Sprintf(`{"data": [1, %d]}`, d.Features)
	}
	// Below the model's own place, so that what is there is of this model.
	model, err := parseLocation(uri)
	if err != nil {
		return nil, err
	}
	trained := strings.Split(strings.TrimPrefix(model.key, s.root().below("training").key+"/"), "/")[0]
	request := compilationRequest{
		RoleArn:           s.SageMaker.Role,
		InputConfig:       compilationInput{S3Uri: uri, DataInputConfig: input, Framework: t.Framework, FrameworkVersion: t.FrameworkAt},
		OutputConfig:      compilationOutput{S3OutputLocation: s.root().below("compiled", trained, t.Variant).String() + "/", TargetDevice: t.Device, CompilerOptions: t.Options, KmsKeyId: s.Bucket.KMSKey},
		StoppingCondition: compilationLimits{MaxRuntimeInSeconds: int64(t.MaxTime.Seconds())},
		VpcConfig:         s.vpc(), Tags: s.tags(),
	}
	if t.Platform != "" {
		parts := append(strings.Split(t.Platform, "/"), "")
		request.OutputConfig.TargetPlatform = &platform{Os: parts[0], Arch: parts[1], Accelerator: parts[2]}
	}
	return &jobKind{
		noun: "compilation job", create: "CreateCompilationJob", describe: "DescribeCompilationJob", name: "CompilationJobName", logs: "/aws/sagemaker/CompilationJobs",
		request: func(name string) any {
			named := request
			named.CompilationJobName = name
			return named
		},
	}, nil
}

// variants are the builds as packaging takes them.
func (r *run) variants(builds []build) ([]packaging.BuildVariant, error) {
	var list []packaging.BuildVariant
	for _, b := range builds {
		needs, err := assemble.Needs(r.path(b.Dir))
		if err == nil && b.needs != "" {
			err = assemble.AddNeeds(&needs, b.needs)
		}
		if err != nil {
			return nil, fmt.Errorf("the variant %s: %w", b.Variant, err)
		}
		list = append(list, packaging.BuildVariant{Name: b.Variant, Dir: r.path(b.Dir), Requires: needs})
	}
	return list, nil
}
