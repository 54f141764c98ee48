package pipeline

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/picket-ml/picket/internal/transfer"
)

const (
	stepSource = "source"
	stepTrain  = "train"
	stepModel  = "model"
)

// trainHere trains on this machine, as SageMaker would have the same program do it.
func (r *run) trainHere(ctx context.Context, d *data) (model, error) {
	var m model
	t := &r.spec.Training
	source, err := sourceFiles(ctx, t)
	if err != nil {
		return m, err
	}
	python, err := r.environment(ctx)
	if err != nil {
		return m, err
	}
	needs, err := readRequirements(t.Source)
	if err != nil {
		return m, err
	}
	from := map[string]any{
		"dataset": d.Digest, "program": digestOf(source), "script": t.Script, "hyperparameters": t.Hyperparameters,
		"requirements": string(needs), "python": python.Version, "model": t.Model,
	}
	err = r.step(ctx, stepTrain, from, &m, func() bool { return m.whole(ctx, r) }, func(ctx context.Context, _ *record) error {
		dir, err := r.fresh("training")
		if err != nil {
			return err
		}
		if err := r.runScript(ctx, d, python, dir); err != nil {
			return err
		}
		if _, err = r.keep("training"); err != nil {
			return err
		}
		m, err = r.findModel(ctx, filepath.Join("training", "model"))
		return err
	})
	return m, err
}

func (r *run) runScript(ctx context.Context, d *data, python *environment, dir string) error {
	t := &r.spec.Training
	for _, below := range []string{"model", "output/data"} {
		if err := os.MkdirAll(filepath.Join(dir, below), 0o755); err != nil {
			return fmt.Errorf("making a folder: %w", err)
		}
	}
	for _, c := range d.Channels {
		if c.files[0].from != c.Path {
			continue
		}
		in := channelFolder(dir, c)
		if err := errors.Join(os.MkdirAll(in, 0o755), os.Symlink(c.Path, filepath.Join(in, c.files[0].Path))); err != nil {
			return fmt.Errorf("giving the dataset to the program: %w", err)
		}
	}
	parameters, err := json.Marshal(t.Hyperparameters)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, "training.log"))
	if err != nil {
		return fmt.Errorf("making a log: %w", err)
	}
	defer log.Close()
	script := command{
		args: []string{python.Python, t.Script}, dir: t.Source, env: scriptEnv(d, dir, string(parameters)),
		log: log, line: func(line string) { r.tell(stepTrain, Working, line) },
	}
	for _, name := range slices.Sorted(maps.Keys(t.Hyperparameters)) {
		script.args = append(script.args, "--"+name, t.Hyperparameters[name])
	}
	if err := script.do(ctx); err != nil {
		return fmt.Errorf("running %s: %w; all that it said is in %s", t.Script, err, log.Name())
	}
	return nil
}

// sourceArchive packs the training program as SageMaker wants it: the same files give the same bytes.
func sourceArchive(files []file) ([]byte, error) {
	var buffer bytes.Buffer
	zipped := gzip.NewWriter(&buffer)
	out := tar.NewWriter(zipped)
	for _, f := range files {
		content, err := os.ReadFile(f.from)
		if err != nil {
			return nil, err
		}
		if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != f.SHA256 {
			return nil, fmt.Errorf("%s was changed while it was packed", f.from)
		}
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Size: f.Size, Mode: 0o644, Format: tar.FormatUSTAR}); err != nil {
			return nil, err
		}
		if _, err := out.Write(content); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(out.Close(), zipped.Close()); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

// maxSource is what a training program may have in all.
const maxSource = 256 << 20

// program is the training program as a job gets it.
type program struct {
	URI string `json:"uri"`

	object location
	files  []file
}

// programOf says where the training program goes; nil where the container brings its own.
func programOf(ctx context.Context, s *Spec) (*program, error) {
	if s.Training.Source == "" {
		return nil, nil
	}
	files, err := sourceFiles(ctx, &s.Training)
	if err != nil {
		return nil, err
	}
	if n := sumBytes(files); n > maxSource {
		return nil, fmt.Errorf("the training program in %s has %d bytes, more than %d: is the dataset in it?", s.Training.Source, n, maxSource)
	}
	at := s.root().below("source", digestOf(files), "sourcedir.tar.gz")
	return &program{URI: at.String(), object: at, files: files}, nil
}

// trainThere trains at SageMaker, and takes the model from S3.
func (r *run) trainThere(ctx context.Context, d *data) (model, error) {
	var m model
	p, err := programOf(ctx, r.spec)
	if err != nil {
		return m, err
	}
	if p != nil {
		if err := r.uploadProgram(ctx, p); err != nil {
			return m, err
		}
	}
	kind, err := r.spec.trainingJob(d, p)
	if err != nil {
		return m, err
	}
	var trained struct {
		Job string `json:"job"`
		URI string `json:"uri"`
	}
	err = r.step(ctx, stepTrain, kind.request(""), &trained, nil, func(ctx context.Context, rec *record) error {
		status, err := r.job(ctx, stepTrain, rec, kind)
		if err != nil {
			return err
		}
		trained.Job, trained.URI = rec.Job.Name, status.ModelArtifacts.S3ModelArtifacts
		if trained.URI == "" {
			return fmt.Errorf("the %s %s has left no model", kind.noun, trained.Job)
		}
		return nil
	})
	if err != nil {
		return m, err
	}
	from := map[string]string{"job": trained.Job, "uri": trained.URI, "model": r.spec.Training.Model}
	err = r.step(ctx, stepModel, from, &m, func() bool { return m.whole(ctx, r) }, func(ctx context.Context, _ *record) error {
		err := r.takeArchive(ctx, stepModel, trained.URI, "trained")
		if err != nil {
			return err
		}
		m, err = r.findModel(ctx, "trained")
		m.URI = trained.URI
		return err
	})
	return m, err
}

func (r *run) uploadProgram(ctx context.Context, p *program) error {
	return r.step(ctx, stepSource, p.URI, p, nil, func(ctx context.Context, _ *record) error {
		packed, err := sourceArchive(p.files)
		if err != nil {
			return fmt.Errorf("packing the training program: %w", err)
		}
		err = r.storeBytes(ctx, stepSource, "sourcedir.tar.gz", packed, p.object)
		if errors.Is(err, transfer.ErrExists) {
			return nil // packed by another version of the compressor; the name has the digest of the files
		}
		return err
	})
}

// trainingJob is the job that trains.
func (s *Spec) trainingJob(d *data, p *program) (*jobKind, error) {
	t := &s.Training
	image, err := s.image()
	if err != nil {
		return nil, err
	}
	request := trainingRequest{
		AlgorithmSpecification: algorithm{TrainingImage: image, TrainingInputMode: "File"},
		RoleArn:                s.SageMaker.Role,
		HyperParameters:        maps.Clone(t.Hyperparameters),
		OutputDataConfig:       outputPath{S3OutputPath: s.root().below("training").String(), KmsKeyId: s.Bucket.KMSKey},
		ResourceConfig:         resources{InstanceType: t.Instance, InstanceCount: t.Count, VolumeSizeInGB: int64(t.Volume >> 30), VolumeKmsKeyId: s.Bucket.KMSKey},
		StoppingCondition:      trainingLimits{MaxRuntimeInSeconds: int64(t.MaxTime.Seconds()), MaxWaitTimeInSeconds: int64(t.MaxWait.Seconds())},
		VpcConfig:              s.vpc(), EnableNetworkIsolation: s.SageMaker.Isolated, EnableManagedSpot: t.Spot, Tags: s.tags(),
	}
	for _, c := range d.Channels {
		request.InputDataConfig = append(request.InputDataConfig, channel{
			ChannelName: c.Channel, ContentType: formats[s.Dataset.Format], InputMode: "File",
			DataSource: dataSource{s3DataSource{S3DataType: "S3Prefix", S3Uri: c.URI, S3DataDistributionType: "FullyReplicated"}},
		})
	}
	if p != nil {
		if err := scriptParameters(&request, s, p); err != nil {
			return nil, err
		}
	}
	return &jobKind{
		noun: "training job", create: "CreateTrainingJob", describe: "DescribeTrainingJob", name: "TrainingJobName", logs: "/aws/sagemaker/TrainingJobs",
		request: func(name string) any {
			named := request
			named.TrainingJobName = name
			return named
		},
	}, nil
}

// scriptParameters are what a container of SageMaker in script mode reads beside the program's own, all as JSON.
func scriptParameters(request *trainingRequest, s *Spec, p *program) error {
	own := map[string]string{
		"sagemaker_program": s.Training.Script, "sagemaker_submit_directory": p.URI, "sagemaker_region": s.AWS.Region,
	}
	if request.HyperParameters == nil {
		request.HyperParameters = map[string]string{}
	}
	for name, value := range own {
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		request.HyperParameters[name] = string(text)
	}
	request.HyperParameters["sagemaker_container_log_level"] = "20"
	return nil
}

func (s *Spec) vpc() *vpc {
	if len(s.SageMaker.Subnets) == 0 {
		return nil
	}
	return &vpc{SecurityGroupIds: s.SageMaker.SecurityGroups, Subnets: s.SageMaker.Subnets}
}

// tags are those of the file, and ours.
func (s *Spec) tags() []tag {
	all := map[string]string{"picket:pipeline": s.Name, "picket:version": strings.TrimSpace(s.Version)}
	maps.Copy(all, s.SageMaker.Tags)
	var list []tag
	for _, key := range slices.Sorted(maps.Keys(all)) {
		list = append(list, tag{key, all[key]})
	}
	return list
}
