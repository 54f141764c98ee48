//go:build cgo

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
)

// Where there are no Unix sockets, a port has all that the commands ask for; what may be loaded there is tcp.control's to say.
func TestDaemonOverAPort(t *testing.T) {
	m := testkit.ModelNamed(t, trained)
	dir := t.TempDir()
	data, err := os.ReadFile(testkit.Path(t, m.Files[0]))
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(dir, "model")
	if err := os.Mkdir(model, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(model, filepath.Base(m.Files[0])), data, 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	over := func(args ...string) []string { return append(args, "--sockets", "tcp://"+address) }
	fails(t, picket(t, "", over("list")...), exitUnreachable, address, "tcp.listen")

	rows, want := rowsAs("csv", testkit.Rows(m.Rows, m.Features), m.Features), testkit.ReadF32(t, m.Prediction)
	for _, test := range []struct{ control bool }{{false}, {true}} {
		t.Run(fmt.Sprintf("control %t", test.control), func(t *testing.T) {
			config := filepath.Join(t.TempDir(), "picketd.yaml")
			text := fmt.Sprintf("tcp: {listen: [%q], agent: true, control: %t}\nmodels: [{name: sums, path: %s}]\nunsigned: true\n", address, test.control, model)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, stop := startDaemon(t, "--config", config)
			for _, protocol := range []string{"agent", "oip"} {
				checkAnswers(t, ok(t, rows, over("predict", "sums", "--protocol", protocol)...), false, want)
			}
			fails(t, picket(t, rows, over("predict", "sums", "--protocol", "lane")...), exitUsage, "the lane has no port")
			ok(t, "", over("explain", "sums")...)
			ok(t, "", over("top", "--once", "--interval", "200ms")...)
			if load := picket(t, "", over("load", "again", model)...); test.control {
				if load.code != exitDone {
					t.Errorf("loading over the port: %s", load.stderr)
				}
			} else {
				fails(t, load, exitPolicy, "tcp.control")
			}
			stop()
		})
	}
}
