package suites

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/hw"
)

// repeat is the suite that is not for all that there is to know of a host.
const repeat = "repeat"

// TestAll reads every suite, and looks whether the data say what they should.
func TestAll(t *testing.T) {
	t.Parallel()
	families := []string{"m5", "c5", "r5", "g4dn", "i3en", "m7i", "c7i", "r7i", "c6id", "c6gd"}
	for _, name := range slices.Concat(families, []string{"local", "standard", repeat}) {
		if !slices.Contains(Names(), name) {
			t.Errorf("there is no suite %s", name)
		}
	}
	digests := map[string]string{}
	for _, name := range Names() {
		s, err := Of(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if s.Name != name {
			t.Errorf("the file %s.yaml has suite %s", name, s.Name)
		}
		if other := digests[s.Digest]; other != "" || len(s.Digest) != 64 {
			t.Errorf("suites %s and %s have the digest %q", name, other, s.Digest)
		}
		digests[s.Digest] = name
		if isFamily := slices.Contains(families, name); isFamily != (s.Family == name) || isFamily != (len(s.Expect.Processors) > 0) || isFamily != (s.Expect.MemoryGiBPerThread > 0) {
			t.Errorf("suite %s is for family %q and expects %+v", name, s.Family, s.Expect)
		}
		if s.Family != "" && s.Expect.Arch == "arm64" && s.Expect.Level != "" && s.Expect.Level != hw.Level("armv8.2-a") {
			t.Errorf("suite %s expects level %s of an ARM processor", name, s.Expect.Level)
		}
		var scenarios []string
		for _, r := range s.Runs {
			scenarios = append(scenarios, r.Scenario)
			if r.Repetitions < 6 {
				t.Errorf("suite %s: %s has %d repetitions, of which there is no interval of 95%%", name, r.Scenario, r.Repetitions)
			}
		}
		for _, scenario := range Scenarios() {
			if name != repeat && !slices.Contains(scenarios, scenario) {
				t.Errorf("suite %s lacks scenario %s", name, scenario)
			}
		}
	}
}

// TestParse refuses what cannot be meant.
func TestParse(t *testing.T) {
	t.Parallel()
	const sound = "name: x\nmodels: [{name: m, trees: 1, depth: 1, features: 1}]\nrepetitions: 1\nduration: 1s\nruns:\n- {scenario: SingleStream, targets: [lane]}\n"
	s, err := Parse([]byte(sound))
	if err != nil {
		t.Fatal(err)
	}
	if r := s.Runs[0]; !slices.Equal(r.Models, []string{"m"}) || !slices.Equal(r.Rows, []int{1}) || !slices.Equal(r.Threads, []int{0}) || r.Duration != s.Duration || r.Arrivals != "" {
		t.Errorf("a run takes from its suite %+v", r)
	}
	for _, c := range [][3]string{
		{"name: x", "name: a/b", "name"},
		{"name: x", "nam: x", "nam"},
		{"name: x", "name: x\nlike: y", "like"},
		{"trees: 1", "trees: 0", "trees"},
		{"depth: 1", "depth: 99", "depth"},
		{"{name: m, trees: 1, depth: 1, features: 1}", "{name: m, trees: 1, depth: 1, features: 1}, {name: m, trees: 1, depth: 1, features: 1}", "twice"},
		{"SingleStream", "Stream", "no such scenario"},
		{"[lane]", "[lan]", "no target"},
		{"[lane]", "[]", "targets"},
		{"[lane]", "[lane], rows: [0]", "rows"},
		{"[lane]", "[lane], outstanding: [99999]", "outstanding"},
		{"[lane]", "[lane], models: [n]", "no model"},
		{"[lane]", "[lane], pin: here", "neither empty nor together nor apart"},
		{"[lane]", "[lane], arrivals: poisson", "arrivals"},
		{"repetitions: 1", "repetitions: -1", "repetitions"},
		{"repetitions: 1", "repetitions: 1\nstarts: -1", "starts"},
		{"repetitions: 1", "repetitions: 1\nwithin: -1s", "within"},
		{"repetitions: 1", "repetitions: 1\npatience: 1h", "patience"},
		{"duration: 1s", "duration: 0s", "duration"},
		{"SingleStream", "Server", "bound"},
		{"SingleStream", "Burst", "share"},
		{"SingleStream, targets: [lane]", "Overload, targets: [lane], share: 2", "deadline"},
		{"name: x\n", "name: x\nexpect: {features: [warp]}\n", "warp"},
		{"- {scenario", "---\n- {scenario", ""},
	} {
		text := strings.Replace(sound, c[0], c[1], 1)
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("with %q a suite gives %v, want an error with %q", c[1], err, c[2])
		}
	}
	if _, err := Of("../local"); err == nil {
		t.Error("a suite is read from elsewhere")
	}
	own := filepath.Join(t.TempDir(), "own.yaml")
	if err := os.WriteFile(own, []byte(sound), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Read(own); err != nil || s.Name != "x" || s.Starts != defaultStarts {
		t.Errorf("a suite of one's own is %+v, %v", s, err)
	}
	if _, err := Read(own + "x"); err == nil || !strings.Contains(err.Error(), "own.yamlx") {
		t.Errorf("a suite that is not there: %v", err)
	}
}

// FuzzParse reads anything, and what it takes is within its bounds.
func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		text, err := files.ReadFile(name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		for _, r := range s.Runs {
			if len(r.Models) == 0 || len(r.Rows) == 0 || len(r.Targets) == 0 || r.Duration <= 0 || r.Repetitions < 1 {
				t.Errorf("a run lacks something: %+v", r)
			}
		}
	})
}
