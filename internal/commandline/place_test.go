package commandline

import (
	"path/filepath"
	"testing"
)

func TestPlaceOf(t *testing.T) {
	dir, err := filepath.Abs("run")
	if err != nil {
		t.Fatal(err)
	}
	for sockets, want := range map[string][2]Place{
		"run":                  {{"unix", filepath.Join(dir, "agent.sock")}, {"unix", filepath.Join(dir, "oip.sock")}},
		dir:                    {{"unix", filepath.Join(dir, "agent.sock")}, {"unix", filepath.Join(dir, "oip.sock")}},
		"tcp://127.0.0.1:8080": {{"tcp", "127.0.0.1:8080"}, {"tcp", "127.0.0.1:8080"}},
		"tcp://[::1]:8080":     {{"tcp", "[::1]:8080"}, {"tcp", "[::1]:8080"}},
	} {
		p, err := PlaceOf(sockets, "agent.sock")
		if err != nil || p != want[0] || p.Beside("oip.sock") != want[1] || p.IsPort() != (p.Network == "tcp") {
			t.Errorf("%s: %+v, beside it %+v, and %v; want %+v", sockets, p, p.Beside("oip.sock"), err, want)
		}
	}
	for _, sockets := range []string{"tcp://", "tcp://host", "tcp://:8080", "tcp://host:", "http://127.0.0.1:8080", "unix:///run/picket"} {
		if p, err := PlaceOf(sockets, "agent.sock"); err == nil {
			t.Errorf("%s is taken for %+v", sockets, p)
		}
	}
}
