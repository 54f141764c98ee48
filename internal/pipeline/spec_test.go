package pipeline

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/config"
)

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// The example shows every key, and every default that it says is one.
func TestExampleIsCompleteAndSaysTheDefaults(t *testing.T) {
	got, err := Load("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	raw := Default()
	document, err := config.ReadDocument("example.yaml", raw)
	if err != nil {
		t.Fatal(err)
	}
	if missing := document.Missing(raw); len(missing) > 0 {
		t.Errorf("the example does not show %v", missing)
	}

	// What is left when the keys without a default are as they were is the default.
	want := Default()
	want.Name, want.Version = raw.Name, raw.Version
	want.Dataset.Train, want.Dataset.Validation = raw.Dataset.Train, raw.Dataset.Validation
	want.Training.Source, want.Training.Hyperparameters = raw.Training.Source, raw.Training.Hyperparameters
	want.Compile = raw.Compile
	want.Baseline.Drop = []string{}
	want.Sign = Sign{Key: raw.Sign.Key, Certificates: []string{}}
	want.Bucket.Name, want.Bucket.Prefix = raw.Bucket.Name, raw.Bucket.Prefix
	want.AWS.Region = raw.AWS.Region
	want.SageMaker.Role = raw.SageMaker.Role
	want.SageMaker.Subnets, want.SageMaker.SecurityGroups = []string{}, []string{}
	if !reflect.DeepEqual(raw, want) {
		t.Errorf("the example says\n%+v\nthe defaults are\n%+v", raw, want)
	}

	// The entries of a list have their defaults from what they are with.
	local, neo := Target{With: withLocal, Target: "x86-64-v3"}, Target{With: withNeo, Variant: "neo", Platform: "LINUX/X86_64", Options: raw.Compile[1].Options}
	local.complete()
	neo.complete()
	if !reflect.DeepEqual(got.Compile, []Target{local, neo}) {
		t.Errorf("the example's targets are %+v, the defaults give %+v", got.Compile, []Target{local, neo})
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(here, "data", "train"); got.Dataset.Train != want {
		t.Errorf("the dataset is at %s, want %s: paths are relative to the file", got.Dataset.Train, want)
	}
}

const small = `name: fraud
version: "1"
dataset: {train: rows.csv}
training: {source: training}
`

func TestMistakesInAFile(t *testing.T) {
	for text, want := range map[string]string{
		"name: a b\nversion: \"1\"\ndataset: {train: x}":                `line 1: name: `,
		"name: a\nversion: 1-2\ndataset: {train: x}":                    `line 2: version: `,
		"name: a\nversion: 1":                                           `dataset.train: is missing`,
		small + "compile: []":                                           `line 5: compile: is empty`,
		small + "compile: [{with: glue}]":                               `compile[0].with: "glue" is not known, it may be local, neo`,
		small + "compile: [{with: neo}]":                                `compile[0]: needs a device`,
		small + "compile: [{with: neo, device: ml_c5, target: x86-64}]": `compile[0].target: is for with: local`,
		small + "compile: [{with: local, device: ml_c5}]":               `compile[0].device: is for with: neo`,
		small + "compile: [{with: neo, platform: linux/amd64}]":         `compile[0].platform: "linux/amd64" is not OS/ARCHITECTURE`,
		small + "compile: [{with: neo, device: ml_c5, options: '{x'}]":  `compile[0].options: is not JSON`,
		small + "compile: [{with: local, target: x86-64-v9}]":           `compile[0].target: "x86-64-v9" is not known`,
		small + "compile: [{with: local}, {with: local}]":               `compile[1].variant: "` + hostTarget() + `" is the name of two`,
		small + "compile: [{with: local, needs: wings}]":                `compile[0].needs: "wings" is neither a level`,
		small + "bucket: {name: Upper}":                                 `bucket.name: "Upper" is not the name of a bucket`,
		small + "bucket: {prefix: /a}":                                  `bucket.prefix: "/a" is not a prefix`,
		small + "sagemaker: {role: admin}":                              `sagemaker.role: "admin" is not the ARN of a role`,
		small + "sagemaker: {subnets: [a]}":                             `sagemaker.subnets: and sagemaker.security_groups need each other`,
		small + "sign: {certificates: [a.pem]}":                         `sign.certificates: needs sign.key`,
		small + "package: {rows: a, warmup: false}":                     `package.rows: excludes package.warmup: false`,
		small + "aws: {endpoint: nowhere}":                              `aws.endpoint: must begin with https://`,
		small + "dataset: {train: x}":                                   `dataset: given twice`,
		small + "pakage: {}":                                            `did you mean package?`,
		"name: a\nversion: \"1\"\ndataset: {train: x}\ntraining: {hyperparameters: {sagemaker_program: x}}": `training.hyperparameters.sagemaker_program: is for SageMaker's own use`,
		"name: a\nversion: \"1\"\ndataset: {train: x}\ntraining: {hyperparameters: {a: [1]}}":               `training.hyperparameters.a: must be a single value`,
		"name: a\nversion: \"1\"\ndataset: {train: x}\ntraining: {volume: 1500MiB}":                         `training.volume: 1500MiB is not a whole number of GiB`,
		"name: a\nversion: \"1\"\ndataset: {train: x}\ntraining: {spot: true}":                              `training.max_wait: 0s is less than training.max_runtime`,
	} {
		path := writeFile(t, filepath.Join(t.TempDir(), "p.yaml"), text)
		if s, err := Load(path); err == nil || s != nil {
			t.Errorf("%q was accepted", text)
		} else if !strings.HasPrefix(err.Error(), path+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestWhatAModeNeeds(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "rows.csv"), "1,2\n")
	for text, want := range map[string]string{
		small: "the file does not give aws.region, bucket.name, sagemaker.role, which SageMaker needs",
	} {
		if _, err := Plan(t.Context(), writeFile(t, filepath.Join(dir, "p.yaml"), text), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for text, want := range map[string]string{
		"name: a\nversion: \"1\"\ndataset: {train: rows.csv}\n": "the file names none: give training.source",
		small + "compile: [{with: neo, device: ml_c5}]":         "the file names only targets of Neo",
	} {
		if _, err := Plan(t.Context(), writeFile(t, filepath.Join(dir, "p.yaml"), text), Options{Local: true}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func FuzzSpec(f *testing.F) {
	example, err := os.ReadFile("example.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add([]byte(small))
	f.Add([]byte("compile: [{with: neo, platform: LINUX/X86_64/NVIDIA, options: '{}'}, {}]\ntraining: {hyperparameters: {a: b, a: c}}"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(dir, "p.yaml")
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := Load(path)
		if err != nil {
			if text := err.Error(); text == "" || strings.Contains(text, "\n\n") || s != nil {
				t.Fatalf("not a list of sentences: %q", text)
			}
			return
		}
		// What was accepted gives requests that can be written, and names that SageMaker takes.
		d := &data{Digest: "d", Features: 3, Channels: []rowsOf{{Channel: channelTrain}}}
		d.place(s)
		s.AWS.Region = "us-west-2"
		kind, err := s.trainingJob(d, nil)
		if err != nil {
			t.Fatal(err)
		}
		name, _, err := kind.next(s, nil)
		if err != nil || !legalName.MatchString(name) {
			t.Fatalf("the job is called %q: %v", name, err)
		}
		for i := range s.Compile {
			if s.Compile[i].With == withNeo {
				if _, err := s.compilationJob(d, "s3://bucket/x/training/"+name+"/output/model.tar.gz", &s.Compile[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
