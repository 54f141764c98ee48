package pipeline

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/testkit"
)

// trainer is a program in script mode that "trains" by taking a model that is there. Python's own library is all it needs.
const trainer = `
import argparse, json, os, shutil, subprocess, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--do", default="")
parser.add_argument("--train", default=os.environ["SM_CHANNEL_TRAIN"])
options = parser.parse_args()
print("names", sorted(os.listdir(options.train)), json.loads(os.environ["SM_HPS"]), os.environ["SM_CHANNELS"], flush=True)
assert not [n for n in os.listdir(options.train) if not open(os.path.join(options.train, n)).readline()]
if options.do == "fail":
    print("the last words", file=sys.stderr)
    sys.exit(3)
if options.do == "wait":
    child = subprocess.Popen(["sleep", "1000"])
    with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "pids"), "w") as f:
        f.write(f"{os.getpid()} {child.pid}")
    print("waiting", flush=True)
    time.sleep(1000)
if options.do != "nothing":
    shutil.copy(options.model, os.path.join(os.environ["SM_MODEL_DIR"], "xgboost-model"))
`

// newLocalPipeline makes a pipeline that trains here.
func newLocalPipeline(t *testing.T) *testPipeline {
	t.Helper()
	p := &testPipeline{t: t, dir: t.TempDir()}
	writeFile(t, filepath.Join(p.dir, "program", "train.py"), trainer)
	writeFile(t, filepath.Join(p.dir, "program", "requirements.txt"), "# nothing\n")
	writeFile(t, filepath.Join(p.dir, "rows.csv"), rowsFor(3))
	p.write(fmt.Sprintf(`
name: fraud
version: "1"
dataset: {train: rows.csv}
package: {warmup: false}
training: {source: program, hyperparameters: {do: "", model: %q}}
`, testkit.Path(t, "models/xgboost/binary-1.3.3.json")))
	return p
}

func (p *testPipeline) runLocal(ctx context.Context) (*Result, error) {
	o := p.options()
	o.Local = true
	return Run(ctx, p.path, o)
}

// The same program runs here as at SageMaker, and a run that fails in it says what it said.
func TestLocal(t *testing.T) {
	p := newLocalPipeline(t)
	for do, want := range map[string]string{
		"fail":    "train: running train.py: exit status 3: the last words; all that it said is in ",
		"nothing": "train: looking for the model that training has left: there is no file in it",
	} {
		p.change(`do: ""`, "do: "+do)
		if _, err := p.runLocal(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		p.change("do: "+do, `do: ""`)
	}
	result, err := p.runLocal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if result.Signer != "" || result.Object != "" || result.Package != filepath.Join(p.dir, "packages", "fraud-1.tar.gz") {
		t.Errorf("made %+v", result)
	}
	log := string(readAll(t, filepath.Join(p.dir, ".picket/fraud/local/training/training.log")))
	if !strings.Contains(log, "names ['rows.csv'] {'do': '', 'model': ") || !strings.Contains(log, `["train"]`) {
		t.Errorf("the program saw %s", log)
	}
	if _, err := p.runLocal(t.Context()); err != nil || len(p.steps(Started)) > 0 {
		t.Errorf("the second run did %v, %v", p.steps(Started), err)
	}
	writeFile(t, filepath.Join(p.dir, "program", "train.py"), trainer+"# changed\n")
	if _, err := p.runLocal(t.Context()); err != nil || strings.Join(p.steps(Started), " ") != "train" {
		t.Errorf("after a change of the program %v was done, %v", p.steps(Started), err)
	}

	t.Run("interrupted", func(t *testing.T) { interruptTraining(t, p) })
}

// interruptTraining ends a run while it trains: the program and what it has started end with it.
func interruptTraining(t *testing.T, p *testPipeline) {
	p.change(`do: ""`, "do: wait")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pids := filepath.Join(p.dir, ".picket/fraud/local/.training/output/data/pids")
	o := Options{Local: true, Progress: func(e Event) {
		if e.Text == "waiting" || strings.HasPrefix(e.Text, "names") {
			go func() {
				for ctx.Err() == nil {
					if text, err := os.ReadFile(pids); err == nil && len(text) > 0 {
						cancel()
					}
					time.Sleep(10 * time.Millisecond)
				}
			}()
		}
	}}
	_, err := Run(ctx, p.path, o)
	if err == nil || !strings.Contains(err.Error(), "interrupted, and") {
		t.Errorf("interrupted: %v", err)
	}
	for _, pid := range strings.Fields(string(readAll(t, pids))) {
		// The kernel may take a moment to be done with who was killed.
		for range 100 {
			if _, err = os.Stat("/proc/" + pid + "/exe"); err != nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if target, err := os.Readlink("/proc/" + pid + "/exe"); err == nil {
			t.Errorf("process %s, %s, is still there", pid, target)
		}
	}
	s, err := Look(p.path, Options{Local: true})
	if err != nil || s.Steps[2].Step != stepTrain || s.Steps[2].State != stateInterrupted || s.Mode != "local" {
		t.Errorf("the record says %+v, %v", s, err)
	}
	p.change("do: wait", `do: ""`)
	if _, err := p.runLocal(t.Context()); err != nil {
		t.Error(err)
	}
}
