package oip

import (
	"errors"

	"github.com/picket-ml/picket/engine"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
)

// statistics are the counters of the model of that name, or of all.
func (s *Server) statistics(name, version string) (*oipapi.ModelStatisticsResponse, error) {
	out := &oipapi.ModelStatisticsResponse{}
	names := []string{name}
	if name == "" {
		names = names[:0]
		for _, d := range s.engine.List() {
			names = append(names, d.Name)
		}
	}
	for _, one := range names {
		model, err := s.acquire(one, version)
		if name == "" && errors.Is(err, engine.ErrNotFound) {
			continue // unloaded since the list was made, or of another version
		}
		if err != nil {
			return nil, err
		}
		out.ModelStats = append(out.ModelStats, modelStatistics(model))
		model.Release()
	}
	return out, nil
}

// modelStatistics are a model's counters under Triton's names. Its engine counts
// how long requests took that succeeded together with those that failed, so that
// the time of failures is in that of successes. compute_input is putting
// requests together, which happens once a run as compute_infer does, and
// compute_output from the end of a run until the answer of a request is written.
// All three are counted in requests, as Triton does and perf_analyzer demands of any
// two looks, so that the mean of the first two is a request's share of its runs.
func modelStatistics(m *engine.Snapshot) *oipapi.ModelStatistics {
	stats := m.Stats()
	var failed uint64
	for _, n := range stats.Failed {
		failed += n
	}
	took := func(h *engine.Histogram) *oipapi.StatisticDuration {
		return &oipapi.StatisticDuration{Count: h.Count, Ns: uint64(h.Sum)}
	}
	none := func() *oipapi.StatisticDuration { return &oipapi.StatisticDuration{} }
	// The counters move on while they are read, one after the other.
	succeeded := stats.Requests - min(failed, stats.Requests)
	shared := func(h *engine.Histogram) *oipapi.StatisticDuration {
		return &oipapi.StatisticDuration{Count: succeeded, Ns: uint64(h.Sum)}
	}
	return &oipapi.ModelStatistics{
		Name: m.Name(), Version: versionOf(m.Version()),
		InferenceCount: stats.Rows, ExecutionCount: stats.Runs,
		InferenceStats: &oipapi.InferStatistics{
			Success:      &oipapi.StatisticDuration{Count: succeeded, Ns: uint64(stats.Total.Sum)},
			Fail:         &oipapi.StatisticDuration{Count: failed},
			Queue:        took(&stats.Queue),
			ComputeInput: shared(&stats.Gather), ComputeInfer: shared(&stats.Run), ComputeOutput: shared(&stats.Reply),
			CacheHit: none(), CacheMiss: none(),
		},
	}
}
