package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPipeline(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"rows.csv": "1,2,3\n0,3,4\n", "program/train.py": "pass\n",
		"p.yaml": "name: fraud\nversion: \"2\"\ndataset: {train: rows.csv}\ntraining: {source: program}\ncompile:\n- {with: neo, device: ml_c5}\n- {with: local, target: x86-64}\n" +
			"bucket: {name: models-bucket, prefix: a}\naws: {region: us-west-2}\nsagemaker: {role: \"arn:aws:iam::123456789012:role/Test\"}\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "p.yaml")
	plan := ok(t, "", "pipeline", "run", file, "--plan")
	for _, want := range []string{
		"POST https://api.sagemaker.us-west-2.amazonaws.com/ CreateTrainingJob", `"TrainingImage": "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1"`,
		"to s3://models-bucket/a/fraud/datasets/", "POST https://api.sagemaker.us-west-2.amazonaws.com/ CreateCompilationJob", `"TargetDevice": "ml_c5"`, `"DataInputConfig": "{\"data\": [1, 2]}"`,
		"to s3://models-bucket/a/packages/fraud-2.tar.gz",
	} {
		if !strings.Contains(plan, want) {
			t.Errorf("the plan does not say %s:\n%s", want, plan)
		}
	}
	if local := ok(t, "", "pipeline", "run", file, "--plan", "--local"); strings.Contains(local, "s3://") || strings.Contains(local, "POST") {
		t.Errorf("the plan for this machine has something of AWS:\n%s", local)
	}
	var list []map[string]any
	if err := json.Unmarshal([]byte(ok(t, "", "pipeline", "run", file, "--plan", "--json")), &list); err != nil || len(list) < 8 {
		t.Errorf("the plan as JSON: %v, %v", list, err)
	}
	if text := ok(t, "", "pipeline", "status", file); text != "fraud, version 2, at SageMaker\n  nothing was done yet\n" {
		t.Errorf("the status is %q", text)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("planning left %v, %v", entries, err)
	}
	fails(t, picket(t, "", "pipeline", "run", filepath.Join(dir, "none.yaml"), "--local"), exitFailed, "running the pipeline ", "no such file")
	fails(t, picket(t, "", "pipeline", "run"), exitUsage, "see picket pipeline run --help")
}
