//go:build cgo

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/picket-ml/picket/internal/monitor"
	"github.com/picket-ml/picket/internal/testkit/s3"
)

// trainingSet is CSV of four features, a score and a label.
func trainingSet(rows int) string {
	random := rand.New(rand.NewPCG(1, 1))
	var b strings.Builder
	b.WriteString("a,b,c,d,prediction,label\n")
	for range rows {
		fmt.Fprintf(&b, "%.4f,%d,%.4f,%.4f,%.4f,%d\n", random.NormFloat64(), random.IntN(5), random.ExpFloat64(), random.Float64(), random.Float64(), random.IntN(2))
	}
	return b.String()
}

// captured is what a host has captured of such rows, the first feature shifted.
func captured(rows int, shift float64) string {
	random := rand.New(rand.NewPCG(2, 2))
	var b strings.Builder
	for range rows {
		fmt.Fprintf(&b, `{"captureData":{"endpointInput":{"observedContentType":"text/csv","mode":"INPUT","data":"%.4f,%d,%.4f,%.4f","encoding":"CSV"},`+
			`"endpointOutput":{"observedContentType":"text/csv","mode":"OUTPUT","data":"%.4f","encoding":"CSV"}},"eventMetadata":{"eventId":"x","inferenceTime":"2026-01-01T00:00:00Z"},"eventVersion":"0"}`+"\n",
			random.NormFloat64()+shift, random.IntN(5), random.ExpFloat64(), random.Float64(), random.Float64())
	}
	return b.String()
}

// From the training set to the next run of the pipeline: the baseline goes into a
// package, captured data are compared with it, and a breach starts a command.
func TestMonitorFromTrainingSetToBreach(t *testing.T) {
	_, artifact := compileFixture(t, trained)
	dir := t.TempDir()
	train := writeFile(t, filepath.Join(dir, "train.csv"), trainingSet(5000))
	base := filepath.Join(dir, "baseline")
	r := must(t, exitDone, "monitor", "baseline", train, "--drop", "label", "--score", "prediction", "-o", base)
	if !strings.Contains(r.stdout, "5000 rows of 5 features") {
		t.Errorf("picket monitor baseline says %s", r.stdout)
	}
	var s monitor.Statistics
	if err := json.Unmarshal([]byte(must(t, exitDone, "monitor", "baseline", train, "-o", base+"-all", "--json").stdout), &s); err != nil || len(s.Features) != 6 {
		t.Errorf("with --json there are %d features: %v", len(s.Features), err)
	}
	pack := filepath.Join(dir, "sums-1.tar.gz")
	must(t, exitDone, "package", "build", artifact, "--name", "sums", "--version", "1", "-o", pack, "--baseline", base)
	must(t, exitFailed, "package", "build", artifact, "--name", "sums", "--version", "2", "-o", filepath.Join(dir, "sums-2.tar.gz"), "--baseline", dir)

	same := writeFile(t, filepath.Join(dir, "same", "2026", "01", "01", "00", "a.jsonl"), captured(3000, 0))
	must(t, exitDone, "monitor", "compare", filepath.Join(dir, "same"), "--baseline", pack)
	must(t, exitDone, "monitor", "compare", same, "--baseline", base)

	writeFile(t, filepath.Join(dir, "moved", "a.jsonl"), captured(1500, 1))
	writeFile(t, filepath.Join(dir, "moved", "b.jsonl"), captured(1500, 1))
	out := filepath.Join(dir, "report")
	told := filepath.Join(dir, "told")
	r = must(t, exitViolations, "monitor", "compare", filepath.Join(dir, "moved"), "--baseline", pack, "-o", out, "--json",
		"--on-breach", `echo "$PICKET_REPORT $PICKET_BASELINE $PICKET_VIOLATIONS" > `+told)
	var report monitor.Report
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatal(err)
	}
	if report.Rows != 3000 || len(report.Violations) != 2 || report.Violations[0].Feature != "a" || report.Features[0].PSI == nil || *report.Features[0].PSI < 0.2 {
		t.Errorf("the report is %+v", report)
	}
	if text, _ := os.ReadFile(told); strings.TrimSpace(string(text)) != fmt.Sprintf("%s %s %d", out, pack, len(report.Violations)) {
		t.Errorf("the command was told %q", text)
	}
	var file monitor.Violations
	data, err := os.ReadFile(filepath.Join(out, monitor.ViolationsFile))
	if err == nil {
		err = json.Unmarshal(data, &file)
	}
	if err != nil || len(file.Violations) != len(report.Violations) {
		t.Errorf("%s has %d violations: %v", monitor.ViolationsFile, len(file.Violations), err)
	}
	if page, _ := os.ReadFile(filepath.Join(out, reportFile)); !strings.Contains(string(page), "<svg") {
		t.Error("the page has no plot")
	}
	const fewer = "rows have fewer values than the baseline has features"
	if strings.Contains(r.stderr, fewer) {
		t.Errorf("whole rows: %s", r.stderr)
	}
	narrow := writeFile(t, filepath.Join(dir, "narrow", "a.jsonl"), `{"captureData":{"endpointInput":{"data":"1,2\n3,4","encoding":"CSV"}}}`+"\n")
	if r := must(t, exitViolations, "monitor", "compare", narrow, "--baseline", pack); !strings.Contains(r.stderr, "2 "+fewer) {
		t.Errorf("rows of which columns were taken out: %s", r.stderr)
	}
	if r := must(t, exitFailed, "monitor", "compare", filepath.Join(dir, "moved"), "--baseline", pack, "--on-breach", "exit 9"); !strings.Contains(r.stderr, "exit status 9") {
		t.Errorf("a command that fails: %s", r.stderr)
	}
}

// Captured data are compared where the uploads lie.
func TestMonitorInS3(t *testing.T) {
	server := s3.Start(t)
	bucket := server.NewBucket(t)
	dir := t.TempDir()
	base := filepath.Join(dir, "baseline")
	must(t, exitDone, "monitor", "baseline", writeFile(t, filepath.Join(dir, "train.csv"), trainingSet(5000)), "--drop", "label", "--score", "prediction", "-o", base)
	o := server.Options()
	client, err := o.S3(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for key, text := range map[string]string{"fraud/2026/01/01/00/a.jsonl": captured(1000, 1), "fraud/2026/01/01/01/b.jsonl": captured(1000, 1), "fraud/raw-data/x": "y", "other/c.jsonl": "z"} {
		if _, err := client.PutObject(t.Context(), &awss3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), Body: strings.NewReader(text)}); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
	reach := []string{"--baseline", base, "--endpoint-url", server.Endpoint, "--region", o.Region, "--path-style"}
	r := must(t, exitViolations, append([]string{"monitor", "compare", "s3://" + bucket + "/fraud/2026"}, reach...)...)
	if !strings.Contains(r.stdout, "2000 rows compared") {
		t.Errorf("picket monitor compare says %s", r.stdout)
	}
	fails(t, picket(t, "", append([]string{"monitor", "compare", "s3://" + bucket + "/fraud/raw-data"}, reach...)...), exitFailed, "there is no object of data")
	fails(t, picket(t, "", append([]string{"monitor", "compare", "s3://" + bucket + "/other"}, reach...)...), exitFailed, "c.jsonl", "a record of captured data")
}

func TestMonitorRefuses(t *testing.T) {
	dir := t.TempDir()
	train := writeFile(t, filepath.Join(dir, "train.csv"), trainingSet(10))
	for _, one := range []struct {
		code int
		args []string
		want string
	}{
		{exitUsage, []string{"baseline", train}, "-o DIR"},
		{exitUsage, []string{"compare", train}, "--baseline"},
		{exitUsage, []string{"compare", train, "--baseline", dir, "--max-psi", "-1"}, "psi is -1"},
		{exitFailed, []string{"baseline", filepath.Join(dir, "nowhere.csv"), "-o", dir}, "no such file"},
		{exitFailed, []string{"baseline", train, "-o", dir, "--drop", "x"}, `no column "x"`},
		{exitFailed, []string{"baseline", writeFile(t, filepath.Join(dir, "x.jsonl"), captured(1, 0)), "-o", dir}, "captured data, of which no baseline is made"},
		{exitFailed, []string{"compare", train, "--baseline", dir}, "make it with picket monitor baseline"},
		{exitUsage, []string{"compare", "s3:///x", "--baseline", dir}, "--baseline"},
	} {
		if one.args[1] == "s3:///x" {
			must(t, exitDone, "monitor", "baseline", train, "-o", dir)
			one.want = "no name of a bucket"
		}
		fails(t, picket(t, "", append([]string{"monitor"}, one.args...)...), one.code, one.want)
	}
}
