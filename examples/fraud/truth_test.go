//go:build cgo

package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/application"
	"github.com/picket-ml/picket/examples/fraud/scoring"
	"github.com/picket-ml/picket/examples/fraud/store"
	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/spool"
)

// TestGroundTruth records what became of transactions while the daemon is away: when it is back it is told, over each of its
// interfaces, and its spool has the outcome under the name of the very score that the decision was made of.
func TestGroundTruth(t *testing.T) {
	for _, protocol := range []string{"lane", "agent", "oip"} {
		t.Run(protocol, func(t *testing.T) {
			sockets := shortDir(t)
			config := filepath.Join(sockets, "picketd.yaml")
			text := fmt.Sprintf("unsigned: true\nstate_dir: %s/state\nmodel_defaults: {capture: {rate: 1}}\ncapture: {enabled: true, flush_after: 5ms}\n", sockets)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			daemon := newProcess(t, "picketd", "--config", config, "--sockets", sockets)
			daemon.start(t)
			eventually(t, "picketd answers", func() bool { _, err := os.Stat(filepath.Join(sockets, "control.sock")); return err == nil })
			s := begin(t, sockets, store.Options{}, func(o *application.Options) {
				teller := scoring.NewTeller(filepath.Join(sockets, "oip.sock"))
				t.Cleanup(teller.Close)
				o.Teller = teller
				askOver(t, o, sockets, protocol)
			})
			if over := s.options.Scorer.Name(); over != protocol {
				t.Fatalf("the daemon is asked over %s, want %s", over, protocol)
			}
			list, _ := simulated(3, protocol+"-")
			names := map[string]float32{}
			for _, one := range list {
				d := s.submit(t, one)
				if d.Source != api.ByModel || d.Inference == "" {
					t.Fatalf("%+v", d)
				}
				names[d.Inference] = *d.Score
			}
			daemon.end(syscall.SIGTERM)
			csrf := s.login(t)
			for i, one := range list {
				if status, said := s.call(t, "POST", "/api/transactions/"+one.ID+"/truth", api.Truth{Fraud: i == 0}, csrf); status != http.StatusOK {
					t.Fatalf("%d %s", status, said)
				}
			}
			daemon.start(t)
			eventually(t, "the daemon is told", func() bool {
				waiting, err := s.options.Store.Outcomes(t.Context(), 10)
				return err == nil && len(waiting) == 0
			})
			daemon.end(syscall.SIGTERM)

			samples, truths := 0, 0
			at, err := spool.Open(spool.Options{Dir: filepath.Join(sockets, "state", "capture")})
			if err != nil {
				t.Fatal(err)
			}
			defer at.Close()
			for _, g := range at.Segments() {
				for b, err := range at.Batches(g) {
					if err != nil {
						t.Fatal(err)
					}
					for _, r := range b.Records {
						if _, ok := names[r.Inference]; !ok {
							continue // the warm-up of the application
						}
						switch r.Kind {
						case capture.Sample:
							samples++
						case capture.Truth:
							truths++
						}
					}
				}
			}
			if samples != len(list) || truths < len(list) {
				t.Errorf("of %d transactions the spool has %d samples and %d outcomes", len(list), samples, truths)
			}
		})
	}
}
