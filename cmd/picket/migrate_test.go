//go:build cgo

package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/commandline"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// edgeInstallation puts an installation of the Edge Manager agent, as its guide makes one, into a folder: with a model's folder, as
// unpacked by a deployment, and an archive of the packaging job that nobody has unpacked.
func edgeInstallation(t *testing.T) (root string, m testkit.Model) {
	t.Helper()
	root, err := os.MkdirTemp("", "edge") // short: a socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	m, artifact := compileFixture(t, trained)
	if err := errors.Join(os.CopyFS(root, os.DirFS("testdata/edge-agent")), os.CopyFS(filepath.Join(root, "models", "fraud"), os.DirFS(artifact))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sagemaker_edge_config.json", "edge-agent.service"} {
		path := filepath.Join(root, name)
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "@ROOT@", root)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	manifest := func(name, version string) []byte {
		return []byte(`{"metadata": {"model_name": "` + name + `", "model_version": "` + version + `"}, "signature": "of the service that has ended"}`)
	}
	if err := os.WriteFile(filepath.Join(root, "models", "fraud", "sagemaker_edge_manifest"), manifest("card_fraud", "1.0"), 0o600); err != nil {
		t.Fatal(err)
	}
	archive, err := os.Create(filepath.Join(root, "models", "limits-2.1.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	zip := gzip.NewWriter(archive)
	out := tar.NewWriter(zip)
	add := func(name string, content []byte) {
		if err := out.WriteHeader(&tar.Header{Name: "./" + name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(artifact)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(artifact, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		add(f.Name(), content)
	}
	add("sagemaker_edge_manifest", manifest("limits", "2.1"))
	if err := errors.Join(out.Close(), zip.Close(), archive.Close()); err != nil {
		t.Fatal(err)
	}
	return root, m
}

// startMigrated starts picketd with the configuration alone, as its unit does, and connects to the agent's socket.
func startMigrated(t *testing.T, config, socket string) *daemon {
	t.Helper()
	path, err := buildPicketd()
	if err != nil {
		t.Fatal(err)
	}
	var log testkit.Output
	command := exec.Command(path, "--config", config)
	command.Env = append(os.Environ(), "PICKET_IMDS=off")
	command.Stderr = &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	d, err := dialPlace(commandline.Place{Network: "unix", Address: socket}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(d.Close(), command.Process.Signal(syscall.SIGTERM), command.Wait()); err != nil || t.Failed() {
			t.Errorf("stopping picketd: %v\n%s", err, log.String())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		if _, err := d.agent.ListModels(ctx, &agentapi.ListModelsRequest{}); err == nil {
			return d
		}
		select {
		case <-ctx.Done():
			t.Fatal("picketd does not answer")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// asOldClient calls everything that a client of the agent calls, in its order.
func asOldClient(t *testing.T, d *daemon, m testkit.Model, name, url string, loads codes.Code) {
	t.Helper()
	ctx := t.Context()
	if _, err := d.agent.LoadModel(ctx, &agentapi.LoadModelRequest{Name: name, Url: url}); status.Code(err) != loads {
		t.Fatalf("LoadModel answers %v, want %v", err, loads)
	}
	described, err := d.agent.DescribeModel(ctx, &agentapi.DescribeModelRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	rows := testkit.Rows(m.Rows, m.Features)
	in := &agentapi.Tensor{
		TensorMetadata: described.GetModel().GetInputTensorMetadatas()[0], // clients echo the shape, with -1 in it
		Data:           &agentapi.Tensor_ByteData{ByteData: tensor.AsBytes(rows)},
	}
	answer, err := d.agent.Predict(ctx, &agentapi.PredictRequest{Name: name, Tensors: []*agentapi.Tensor{in}})
	if err != nil {
		t.Fatal(err)
	}
	want := testkit.ReadF32(t, m.Margin)
	data := answer.GetTensors()[0].GetByteData()
	got := make([]float32, len(data)/4)
	copy(tensor.AsBytes(got), data)
	if len(got) != len(want) {
		t.Fatalf("%d answers, want %d", len(got), len(want))
	}
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("row %d: %v, the trainer says %v", i, got[i], want[i])
		}
	}
	if _, err := d.agent.CaptureData(ctx, &agentapi.CaptureDataRequest{
		ModelName: name, CaptureId: "7f3a-42", InputTensors: []*agentapi.Tensor{in}, OutputTensors: answer.GetTensors(),
	}); err != nil {
		t.Fatal(err)
	}
}

func TestMigrate(t *testing.T) {
	root, m := edgeInstallation(t)
	before := digestTree(t, root)
	etc, state, units, run := filepath.Join(root, "new", "etc"), filepath.Join(root, "new", "lib"), filepath.Join(root, "new", "units"), filepath.Join(root, "new", "run")
	unit, socket := filepath.Join(root, "edge-agent.service"), filepath.Join(root, "edge.sock")
	args := []string{"migrate", root, "--unit", unit, "--model", "fraud=" + filepath.Join(root, "models", "fraud"),
		"--etc", etc, "--state", state, "--units", units, "--sockets", run}

	// The plan says all, and nothing is written.
	text := ok(t, "", args...)
	for _, part := range []string{
		"user           edge", "socket         " + socket, "model          fraud, from " + filepath.Join(root, "models", "fraud"), "model          limits, from",
		"| User=edge", "root_certs_path: is " + root, "dlr_backend_options: is TVM_", "LD_LIBRARY_PATH: of the agent's environment is not taken over",
		`"sagemaker_edge_provider_provider_path" is not a known key`, "ExecStartPre=-/bin/rm", "disable --now edge-agent.service",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the plan does not say %q:\n%s", part, text)
		}
	}
	if after := digestTree(t, root); after != before {
		t.Fatal("a dry run has changed the installation")
	}
	// Below a folder, to be looked at.
	look := filepath.Join(t.TempDir(), "look")
	ok(t, "", append(args, "-o", look)...)
	if _, err := os.Stat(filepath.Join(look, etc, "picketd.yaml")); err != nil {
		t.Error(err)
	}

	ok(t, "", append(args, "--apply")...)
	ok(t, "", append(args, "--apply")...) // what is there is what is wanted
	config := filepath.Join(etc, "picketd.yaml")
	written, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(written), "unsigned") || strings.Count(string(written), "sha256:") != 2 {
		t.Errorf("the models are not trusted by their digests:\n%s", written)
	}
	if info, err := os.Stat(filepath.Join(etc, "edge-manager", "private.pem.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the device's key: %v, %v", info, err)
	}
	dropIn, err := os.ReadFile(filepath.Join(units, "picketd.service.d", "edge-manager.conf"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"Conflicts=edge-agent.service", "User=edge", "Group=edge", `Environment="HTTPS_PROXY=http://proxy.branch:3128"`, "PrivateTmp=no", "ReadWritePaths=" + root} {
		if !strings.Contains(string(dropIn), part+"\n") {
			t.Errorf("the drop-in lacks %s:\n%s", part, dropIn)
		}
	}
	systemdReads(t, units)

	d := startMigrated(t, config, socket)
	// The name is taken, which old clients take for success.
	asOldClient(t, d, m, "fraud", filepath.Join(root, "models", "fraud"), codes.AlreadyExists)
	models, err := d.agent.ListModels(t.Context(), &agentapi.ListModelsRequest{})
	if err != nil || len(models.GetModels()) != 2 {
		t.Errorf("%v, %v", models, err)
	}
	if _, err := d.agent.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "other", Url: filepath.Join(root, "models", "fraud")}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a folder that nobody vouches for: %v", err)
	}
	waitForCapture(t, filepath.Join(root, "capture"))

	// Another configuration in its place is not overwritten unless that is asked for.
	if err := os.WriteFile(config, []byte("log: {level: warn}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, picket(t, "", append(args, "--apply")...), exitFailed, config+" is there already", "--replace")
	ok(t, "", append(args, "--apply", "--replace")...)
	if old, err := os.ReadFile(config + ".old"); err != nil || string(old) != "log: {level: warn}\n" {
		t.Errorf("what was replaced was not kept: %q, %v", old, err)
	}
}

// Clients that name the folders of models keep doing so where the operator says that nothing need be signed.
func TestMigrateUnsigned(t *testing.T) {
	root, m := edgeInstallation(t)
	etc, run := filepath.Join(root, "new", "etc"), filepath.Join(root, "new", "run")
	text := ok(t, "", "migrate", root, "--socket", filepath.Join(root, "edge.sock"), "--unsigned", "--apply",
		"--etc", etc, "--state", filepath.Join(root, "new", "lib"), "--units", filepath.Join(root, "new", "units"), "--sockets", run)
	if !strings.Contains(text, "whoever can write there can run code as picketd") || !strings.Contains(text, "model          card-fraud, from") {
		t.Error(text)
	}
	d := startMigrated(t, filepath.Join(etc, "picketd.yaml"), filepath.Join(root, "edge.sock"))
	asOldClient(t, d, m, "clients-own-name", filepath.Join(root, "models", "fraud"), codes.OK)
	if _, err := d.agent.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "elsewhere", Url: root}); err == nil {
		t.Error("a folder outside of the models' was loaded")
	}
}

func TestMigrateFailures(t *testing.T) {
	root, _ := edgeInstallation(t)
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for want, args := range map[string][]string{
		"no sagemaker_edge_config.json":     {t.TempDir()},
		"is no file of the Edge Manager":    {root, "--config", write("picketd.yaml", "log: {level: info}\n")},
		"not JSON":                          {root, "--config", write("x.json", "{")},
		"has no ExecStart":                  {root, "--unit", write("a.service", "[Service]\nUser=x\n")},
		"a quote is not closed":             {root, "--unit", write("a.service", "[Service]\nExecStart=/bin/sh -c 'agent\n")},
		"does not start the agent itself":   {root, "--unit", write("a.service", "[Service]\nExecStart=/usr/bin/docker run --rm agent\n")},
		"is not understood":                 {root, "--unit", write("a.service", "[Service]\nExecStart=/agent -a /run/%%i.sock -c %h/x.json\n")},
		"there is no model in /nowhere":     {root, "--model", "fraud=/nowhere"},
		"no such file":                      {root, "--models", filepath.Join(root, "gone")},
		"letters, digits and inner hyphens": {root, "--model", "card_fraud=" + filepath.Join(root, "models", "fraud")},
		"is no regular file":                {root, "--unit", root},
	} {
		fails(t, picket(t, "", append([]string{"migrate"}, args...)...), exitFailed, want)
	}
	fails(t, picket(t, "", "migrate", root, "--apply", "-o", "x"), exitUsage, "two ways to write")
	fails(t, picket(t, "", "migrate", root, "--model", "fraud"), exitUsage, "NAME=PATH")
	if err := os.Symlink("/etc/hostname", filepath.Join(root, "models", "fraud", "more.params")); err != nil {
		t.Fatal(err)
	}
	fails(t, picket(t, "", "migrate", root), exitFailed, "packing a folder", "escapes")
}

// systemdReads has systemd read picketd's unit with the drop-in.
func systemdReads(t *testing.T, units string) {
	t.Helper()
	unit, err := os.ReadFile(filepath.Join(testkit.ModuleRoot(), "deploy", "systemd", "picketd.service"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(units, "picketd.service")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(unit), "/usr/bin/picket", "/bin/true --")), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command("systemd-analyze", "verify", "--man=no", path)
	command.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+units+":", "SYSTEMD_LOG_LEVEL=warning")
	if output, err := command.CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("systemd says: %v\n%s", err, output)
	}
}

// waitForCapture waits for a captured record in the form of the agent below dir.
func waitForCapture(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		files, err := filepath.Glob(filepath.Join(dir, "captured", "branches", "fraud", "*", "*", "*", "*", "*.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) > 0 {
			text, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			var record struct {
				EventMetadata struct{ DeviceID, EventID string }
			}
			if err := json.Unmarshal([]byte(strings.SplitN(string(text), "\n", 2)[0]), &record); err != nil || record.EventMetadata.EventID != "7f3a-42" || record.EventMetadata.DeviceID != "till-17" {
				t.Errorf("the record is %.300s (%v)", text, err)
			}
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("nothing was captured in %s", dir)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// digestTree is all names, modes and contents below a folder.
func digestTree(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		all.WriteString(path + " " + info.Mode().String())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all.Write(content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
