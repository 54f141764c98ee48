package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func captureDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("picket_capture_"+name, help, labels, nil)
}

var (
	captureAccepted    = captureDesc("accepted_records_total", "Records that were made durable, since the spool was made.")
	captureUploaded    = captureDesc("uploaded_records_total", "Of these, those that are where they should be.")
	captureOnDisk      = captureDesc("on_disk_records", "Of these, those that wait.")
	captureDropped     = captureDesc("dropped_records_total", "Of these, those that will not leave, by reason.", "reason")
	captureQuarantined = captureDesc("quarantined_records_total", "Of these, those that were found damaged.")
	captureRefused     = captureDesc("refused_records_total", "Records that were chosen and never accepted, since this process began, by reason.", "reason")
	captureTaken       = captureDesc("sampled_records_total", "Inferences that the tap has given to the spool, since this process began.")
	captureWaiting     = captureDesc("waiting_bytes", "Tensors that wait to be written to the spool.")
	captureBytes       = captureDesc("spool_bytes", "What the spool takes on disk.")
	captureLimit       = captureDesc("spool_limit_bytes", "What the spool may take.")
	captureSegments    = captureDesc("spool_segments", "Segments that wait.")
	captureAge         = captureDesc("spool_oldest_seconds", "How long the oldest record has waited.")
	captureBatches     = captureDesc("spool_batches_total", "Writes to the spool, each made durable, since this process began.")
	captureDamage      = captureDesc("spool_damaged_ranges_total", "Damaged ranges that were set aside, since this process began.")
	captureOpen        = captureDesc("spool_open", "Whether this process has the spool: 1 or 0.")
	captureStopped     = captureDesc("spool_stopped", "Whether capturing has stopped because the spool was full: 1 or 0.")
)

// Describe implements prometheus.Collector.
func (k *captures) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		captureAccepted, captureUploaded, captureOnDisk, captureDropped, captureQuarantined, captureRefused, captureTaken, captureWaiting, captureBytes,
		captureLimit, captureSegments, captureAge, captureBatches, captureDamage, captureOpen, captureStopped,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (k *captures) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	taken := k.tap.Stats()
	counter(captureTaken, float64(taken.Taken))
	gauge(captureWaiting, float64(taken.WaitingBytes))
	for _, r := range []struct {
		reason string
		n      uint64
	}{{"ring", taken.DroppedRing}, {"bytes", taken.DroppedBytes}, {"closed", taken.DroppedClosed}} {
		counter(captureRefused, float64(r.n), r.reason)
	}
	select {
	case <-k.ready:
	default:
		gauge(captureOpen, 0)
		return
	}
	st := k.spool.Stats()
	gauge(captureOpen, 1)
	counter(captureAccepted, float64(st.Accepted))
	counter(captureUploaded, float64(st.Uploaded))
	gauge(captureOnDisk, float64(st.OnDisk))
	counter(captureQuarantined, float64(st.Quarantined))
	for _, r := range []struct {
		reason string
		n      int64
	}{{"quota", st.Dropped.Quota}, {"age", st.Dropped.Age}, {"policy", st.Dropped.Policy}, {"lost", st.Dropped.Lost}} {
		counter(captureDropped, float64(r.n), r.reason)
	}
	for _, r := range []struct {
		reason string
		n      int64
	}{{"full", st.Refused.Full}, {"busy", st.Refused.Busy}, {"disk", st.Refused.Disk}} {
		counter(captureRefused, float64(r.n), r.reason)
	}
	gauge(captureBytes, float64(st.Bytes))
	gauge(captureLimit, float64(st.Limit))
	gauge(captureSegments, float64(st.Segments))
	counter(captureBatches, float64(st.Batches))
	counter(captureDamage, float64(st.DamagedRanges))
	oldest := 0.0
	if !st.Oldest.IsZero() {
		oldest = max(0, time.Since(st.Oldest).Seconds())
	}
	gauge(captureAge, oldest)
	stopped := 0.0
	if st.Stopped {
		stopped = 1
	}
	gauge(captureStopped, stopped)
}
