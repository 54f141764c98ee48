package migrate

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/testkit"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                              nil,
		"  a  b\tc ":                    {"a", "b", "c"},
		`"a b" 'c "d"' e"f g"h`:         {"a b", `c "d"`, "ef gh"},
		`a\ b \"c '\d'`:                 {"a b", `"c`, `\d`},
		`A="x y" "B=z" ''`:              {"A=x y", "B=z", ""},
		`/bin/agent -a /tmp/x -c 'y z'`: {"/bin/agent", "-a", "/tmp/x", "-c", "y z"},
	} {
		if got, err := words(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q is split into %q, %v", line, got, err)
		}
	}
	for _, line := range []string{`"a`, `'a`, `a\`} {
		if got, err := words(line); err == nil {
			t.Errorf("%q is split into %q", line, got)
		}
	}
}

func TestReadService(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.service")
	for name, text := range map[string]string{
		path:                  "[Service]\nUser=edge\nWorkingDirectory=-/opt/edge\nEnvironment=A=1 B=2\nExecStart=-/old -a /no\nExecStart=\nExecStart=@/opt/agent -a ${SOCK} \\\n  -c conf/c.json\n",
		path + ".d/more.conf": "[Service]\nEnvironment=SOCK=/run/e.sock A=3\nEnvironmentFile=/etc/default/agent\nExecStartPre=/bin/true\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := readService(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.flags()
	if err != nil || f != (agentFlags{"/run/e.sock", "/opt/edge/conf/c.json", ""}) {
		t.Errorf("%+v, %v", f, err)
	}
	if s.user != "edge" || s.variable("A") != "3" || len(s.notes) != 1 || !slices.Equal(s.environments, []string{"/etc/default/agent"}) {
		t.Errorf("%+v", s)
	}
}

func TestNameModels(t *testing.T) {
	long := strings.Repeat("x", 80)
	models := []Model{
		{Package: "card_fraud", Version: "1.0", From: "/a"}, {Package: "card_fraud", Version: "2.0", From: "/b"}, {Package: "card_fraud", Version: "2.0", From: "/c"},
		{From: "/m/limits_v3.tar.gz"}, {From: "/n/limits_v3"}, {From: "/o/___"}, {Package: "given", Version: "9", From: "/p"},
		{Package: long, Version: long, From: "/q"}, {Package: long, Version: long, From: "/r"}, {Package: long, Version: long, From: "/s"},
	}
	if err := nameModels(models, map[string]string{"/p": "chosen"}); err != nil {
		t.Fatal(err)
	}
	got, taken := map[string]string{}, map[string]bool{}
	for _, m := range models {
		if taken[m.Name] || engine.CheckName(m.Name) != nil {
			t.Errorf("%s is called %q", m.From, m.Name)
		}
		taken[m.Name] = true
		got[m.From] = m.Name
	}
	for from, want := range map[string]string{"/a": "card-fraud-1-0", "/b": "card-fraud", "/c": "card-fraud-2-0", "/m/limits_v3.tar.gz": "limits-v3", "/n/limits_v3": "limits-v3-1", "/o/___": "model", "/p": "chosen"} {
		if got[from] != want {
			t.Errorf("%s is called %q, want %q", from, got[from], want)
		}
	}
	for _, given := range []map[string]string{{"/nowhere": "x"}, {"/a": "x_y"}, {"/a": "x", "/b": "x"}} {
		if err := nameModels(models, given); err == nil {
			t.Errorf("%v was taken", given)
		}
	}
}

// FuzzUnit: whatever the old unit says, the drop-in has only the keys that we write, so nothing in it can become another.
func FuzzUnit(f *testing.F) {
	f.Add("[Service]\nUser=edge\nGroup=edge\nEnvironment=AWS_REGION=x \"OMP_NUM_THREADS=2\"\nEnvironmentFile=-/etc/e\nExecStart=/a -a /s -c /c\n")
	f.Add("[Service]\nUser=a\\\nExecStartPre=/bin/sh\nExecStart=/a\n")
	f.Add("[Service]\nEnvironment=\"AWS_X=a\\\nb\" 'TVM_Y=\\\"'\n")
	f.Add("[Service]\nEnvironmentFile=/a\\\n[Service]\\\nUser=root\nExecStart=x")
	f.Fuzz(func(t *testing.T, text string) {
		s := &service{name: "agent.service", dir: "/"}
		if err := s.parse([]byte(text)); err != nil {
			if err.Error() == "" || strings.Contains(err.Error(), "\n\n") {
				t.Fatalf("not a sentence: %q", err)
			}
			return
		}
		if len(s.command) > 0 {
			if flags, err := s.flags(); err == nil && (flags.config != "" && !filepath.IsAbs(flags.config) || flags.socket != "" && !filepath.IsAbs(flags.socket)) {
				t.Fatalf("relative paths: %+v", flags)
			}
		}
		options, err := unit.DeserializeOptions(strings.NewReader(s.dropIn(needs{tmp: true, write: []string{"/x"}})))
		if err != nil {
			t.Fatalf("the drop-in cannot be read: %v", err)
		}
		for _, o := range options {
			switch o.Name {
			case "Conflicts", "After", "User", "Group", "Environment", "EnvironmentFile", "PrivateTmp", "ReadWritePaths":
			default:
				t.Fatalf("the drop-in says %s=%s", o.Name, o.Value)
			}
			if strings.ContainsAny(o.Value, "\n\r") {
				t.Fatalf("the drop-in goes on in another line: %q", o.Value)
			}
		}
	})
}

// The certificate and the key of a device may be called the same in two folders.
func TestFilesOfOneNameHaveTwoPlaces(t *testing.T) {
	p := &Plan{}
	for _, want := range []string{"/etc/a.pem", "/etc/a-2.pem", "/etc/a-3.pem"} {
		got := p.unused("/etc", "a", ".pem")
		if got != want {
			t.Errorf("the place is %s, want %s", got, want)
		}
		p.text(got, 0o600, "a file", "")
	}
}
