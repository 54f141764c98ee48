package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/picket-ml/picket/internal/testkit"
)

// leastCovered is how much of each parser its tests must have run.
const leastCovered = 0.85

// parser reads what comes from outside.
type parser struct {
	name    string
	targets []string // of fuzzing, each with a folder of inputs that are committed
	files   []string // where it is written; none where the target is of more than a parser
}

// allParsers are all of them; a new one is a line here.
var allParsers = []parser{
	{"the lane: frames, handshake", []string{"internal/lanewire/FuzzHeader", "internal/server/lane/FuzzConnection"},
		[]string{"internal/lanewire/header.go", "internal/lanewire/handshake.go", "internal/lanewire/failure.go", "internal/server/lane/conn.go", "internal/server/lane/large.go", "internal/server/lane/open.go"}},
	{"the lane: signatures", []string{"internal/lanewire/FuzzSignature"}, []string{"internal/lanewire/signature.go"}},
	{"the lane: answers", []string{"lane/FuzzAnswers"}, []string{"lane/receive.go"}},
	{"agent requests", []string{"internal/server/agent/FuzzPredict"}, []string{"internal/server/agent/input.go", "internal/server/agent/hint.go"}},
	{"Open Inference Protocol: messages", []string{"internal/server/oip/FuzzDecode"}, []string{"internal/server/oip/decode.go", "internal/server/oip/elements.go", "internal/server/oip/bind.go"}},
	{"Open Inference Protocol: JSON", []string{"internal/server/oip/FuzzInferJSON"},
		[]string{"internal/server/oip/decodejson.go", "internal/server/oip/scanner.go", "internal/server/oip/numbers.go", "internal/server/oip/httpinfer.go"}},
	{"handles of shared memory", []string{"internal/shm/FuzzHandle"}, []string{"internal/shm/handle.go", "internal/shm/segment.go"}},
	{"rows as text and JSON", []string{"internal/rows/FuzzReader"}, []string{"internal/rows/csv.go", "internal/rows/json.go", "internal/rows/number.go", "internal/rows/reader.go"}},
	{"manifests", []string{"internal/store/FuzzManifest"}, []string{"internal/store/manifest.go"}},
	{"packages: manifests", []string{"packaging/FuzzParseManifest"}, []string{"packaging/manifest.go", "packaging/json.go", "packaging/path.go", "packaging/name.go"}},
	{"packages: archives", []string{"packaging/FuzzArchive", "packaging/FuzzOldArchive"}, []string{"packaging/archive.go", "packaging/frame.go", "packaging/old.go", "packaging/unpack.go"}},
	{"packages: signatures", []string{"packaging/signing/FuzzBundle", "packaging/signing/FuzzStatement"}, []string{"packaging/signing/bundle.go", "packaging/signing/statement.go"}},
	{"packages that were run", []string{"internal/store/FuzzLedger"}, []string{"internal/store/ledger.go"}},
	{"remembered decisions", []string{"internal/store/FuzzDecision"}, []string{"internal/store/decisions.go"}},
	{"fleets: documents", []string{"internal/fleet/FuzzDocuments", "internal/fleet/FuzzView"}, []string{"internal/fleet/json.go", "internal/fleet/fleet.go"}},
	{"fleets: what a device keeps", []string{"internal/fleet/device/FuzzState"}, []string{"internal/fleet/device/state.go"}},
	{"fleets: the API of devices", []string{"internal/fleet/edge/FuzzHeartbeat", "internal/fleet/edge/FuzzAuthorization"}, []string{"internal/fleet/edge/edge.go", "internal/fleet/edge/sigv4.go", "internal/fleet/edge/handler.go"}},
	{"compiled.meta", []string{"backends/neo/FuzzParseMetadata"}, []string{"backends/neo/metadata.go"}},
	{"parameters of TVM", []string{"backends/neo/FuzzParams"}, []string{"backends/neo/params.go"}},
	{"graphs of TVM", []string{"backends/neo/FuzzGraph"}, []string{"backends/neo/graph.go"}},
	{"ONNX files, before ONNX Runtime sees them", []string{"backends/onnx/FuzzExamine"}, []string{"backends/onnx/examine.go"}},
	{"trees: XGBoost's JSON", []string{"internal/ensemble/FuzzJSON"}, []string{"internal/ensemble/json.go", "internal/ensemble/xgboost.go", "internal/ensemble/xgboosttree.go"}},
	{"trees: XGBoost's UBJSON", []string{"internal/ensemble/FuzzUBJSON"}, []string{"internal/ensemble/ubjson.go"}},
	{"trees: XGBoost's old format", []string{"internal/ensemble/FuzzBinary"}, []string{"internal/ensemble/xgboostbinary.go"}},
	{"trees: LightGBM", []string{"internal/ensemble/FuzzLightGBM"}, []string{"internal/ensemble/lightgbm.go", "internal/ensemble/lightgbmtree.go"}},
	{"trees: ONNX", []string{"internal/ensemble/FuzzONNX"},
		[]string{"internal/ensemble/onnx.go", "internal/ensemble/onnxattribute.go", "internal/ensemble/onnxtree.go", "internal/ensemble/onnxwire.go"}},
	{"model files, as kernels", []string{"backends/forest/FuzzOpen"}, nil},
	{"ELF libraries", []string{"internal/dl/FuzzInspect"},
		[]string{"internal/dl/inspect.go", "internal/dl/sections.go", "internal/dl/dynamic.go", "internal/dl/hash.go", "internal/dl/image.go", "internal/dl/object.go", "internal/dl/relocations.go"}},
	{"configuration", []string{"internal/config/FuzzYAML"}, []string{"internal/config/yaml.go", "internal/config/size.go", "internal/config/validate.go", "internal/config/fleet.go"}},
	{"the file of a pipeline", []string{"internal/pipeline/FuzzSpec"}, []string{"internal/pipeline/spec.go"}},
	{"an Edge Manager's configuration", []string{"internal/config/FuzzLegacyJSON"}, []string{"internal/config/legacyjson.go"}},
	{"control groups and masks", []string{"internal/hw/FuzzCPUQuota", "internal/hw/FuzzParseMask", "internal/hw/FuzzParseCPUList"}, []string{"internal/hw/cgroup.go", "internal/hw/mask.go"}},
	{"captured records", []string{"internal/capture/FuzzParseEntry"}, []string{"internal/capture/entry.go"}},
	{"captured records, as files of others", []string{"internal/capture/format/FuzzEncode"}, nil},
	{"segments of the spool", []string{"internal/capture/spool/FuzzSegment"}, []string{"internal/capture/spool/layout.go", "internal/capture/spool/recover.go"}},
	{"lines of the audit log", []string{"internal/capture/residency/FuzzEntry"}, []string{"internal/capture/residency/entry.go"}},
	{"history as CSV, for picket score", []string{"internal/score/FuzzCSV"}, []string{"internal/score/csv.go", "internal/score/number.go", "internal/score/chunk.go"}},
	{"addresses of S3", []string{"internal/cloud/FuzzParseS3"}, []string{"internal/cloud/s3url.go"}},
	{"what a download keeps", []string{"internal/transfer/FuzzState"}, []string{"internal/transfer/state.go"}},
	{"captured data and statistics, for picket monitor", []string{"internal/monitor/FuzzCapture", "internal/monitor/FuzzStatistics"}, nil},
	{"units of systemd, for picket migrate", []string{"internal/migrate/FuzzUnit"}, []string{"internal/migrate/unit.go"}},
	{"positions of rings in shared memory", []string{"internal/ring/FuzzPositions"}, nil},
	{"the headers of traces", []string{"internal/trace/FuzzParent"}, []string{"internal/trace/parent.go"}},
	{"transactions of the fraud application", []string{"examples/fraud/features/FuzzOf"}, nil},
	{"what perf recorded", []string{"bench/flame/FuzzRead"}, []string{"bench/flame/flame.go"}},
	{"suites and results of benchmarks", []string{"bench/suites/FuzzParse", "bench/report/FuzzParseResult"}, []string{"bench/suites/suites.go", "bench/report/result.go"}},
	{"results of benchmarks, compared and as a page", []string{"bench/compare/FuzzOf", "bench/page/FuzzPage"}, []string{"bench/compare/compare.go", "bench/page/page.go", "bench/page/chart.go"}},
	{"rooflines", []string{"bench/roofline/FuzzParse"}, nil},
	{"prices", []string{"bench/cost/FuzzPrices"}, []string{"bench/cost/cost.go"}},
	{"metrics, for picket top", []string{"cmd/picket/FuzzTop"}, []string{"cmd/picket/topsample.go"}},
}

// readers is the part: every parser has inputs of fuzzing that are committed, and its tests, which run those too, run most of its lines.
func readers(ctx context.Context, s *soak) error {
	var packages []string
	for _, p := range allParsers {
		for _, target := range p.targets {
			dir := filepath.Join(testkit.ModuleRoot(), path.Dir(target), "testdata", "fuzz", path.Base(target))
			inputs, err := os.ReadDir(dir)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("looking for inputs of fuzzing: %w", err)
			}
			s.out.check(len(inputs) > 0, target+" has its corpus", "%d inputs are committed", len(inputs))
		}
		for _, file := range p.files {
			if dir := "./" + path.Dir(file); !slices.Contains(packages, dir) {
				packages = append(packages, dir)
			}
		}
	}
	if s.short {
		return nil // other tests run these tests anyhow
	}
	profile := filepath.Join(s.dir, "cover.out")
	tests := exec.CommandContext(ctx, "go", append([]string{"test", "-coverprofile", profile}, packages...)...)
	tests.Dir = testkit.ModuleRoot()
	if said, err := tests.CombinedOutput(); err != nil {
		return fmt.Errorf("running the tests of the parsers: %w\n%s", err, said)
	}
	covered, err := coverage(profile)
	if err != nil {
		return err
	}
	for _, p := range allParsers {
		if p.files == nil {
			continue
		}
		var all, run int
		for _, file := range p.files {
			c, ok := covered[file]
			if !ok {
				return fmt.Errorf("%s has no statements that could be run: correct the table of parsers", file)
			}
			all, run = all+c.all, run+c.run
		}
		s.out.check(float64(run) >= leastCovered*float64(all), "tests run most of the parser of "+p.name, "%.1f%% of %d statements", 100*float64(run)/float64(all), all)
	}
	return nil
}

// counted is how many statements there are, and how many of them were run.
type counted struct{ all, run int }

// coverage reads a profile of go test, in which packages that several tests have run are there several times.
func coverage(profile string) (map[string]counted, error) {
	text, err := os.ReadFile(profile)
	if err != nil {
		return nil, fmt.Errorf("reading what the tests have run: %w", err)
	}
	type block struct{ statements, runs int }
	blocks := map[string]block{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		// module/folder/file.go:12.3,14.5 statements runs
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			continue // the mode
		}
		statements, err1 := strconv.Atoi(fields[1])
		runs, err2 := strconv.Atoi(fields[2])
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("reading what the tests have run: %q is no line of a profile", lines.Text())
		}
		b := blocks[fields[0]]
		blocks[fields[0]] = block{statements, b.runs + runs}
	}
	files := map[string]counted{}
	for place, b := range blocks {
		file, _, _ := strings.Cut(strings.TrimPrefix(place, "github.com/picket-ml/picket/"), ":")
		c := files[file]
		c.all += b.statements
		if b.runs > 0 {
			c.run += b.statements
		}
		files[file] = c
	}
	return files, lines.Err()
}
