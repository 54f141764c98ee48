package cloudwatch

import "github.com/prometheus/client_golang/prometheus"

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("picket_cloudwatch_"+name, help, labels, nil)
}

var (
	metricsTotal   = desc("metrics_total", "Metrics for CloudWatch: sent, or given up because there was no room (full), they were too old (old), their clock was ahead (ahead), CloudWatch refused them (refused) or they were damaged on disk (damaged).", "outcome")
	failuresTotal  = desc("failures_total", "Requests to CloudWatch that failed; what they had is sent again.")
	waitingBatches = desc("waiting_batches", "Batches of metrics that wait to be sent.")
	waitingBytes   = desc("waiting_bytes", "What they take.")
)

// Describe implements prometheus.Collector.
func (p *Publisher) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{metricsTotal, failuresTotal, waitingBatches, waitingBytes} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (p *Publisher) Collect(to chan<- prometheus.Metric) {
	s := p.Stats()
	to <- prometheus.MustNewConstMetric(metricsTotal, prometheus.CounterValue, float64(s.Sent), "sent")
	for reason, n := range s.Lost {
		to <- prometheus.MustNewConstMetric(metricsTotal, prometheus.CounterValue, float64(n), reason)
	}
	to <- prometheus.MustNewConstMetric(failuresTotal, prometheus.CounterValue, float64(s.Failures))
	to <- prometheus.MustNewConstMetric(waitingBatches, prometheus.GaugeValue, float64(s.Batches))
	to <- prometheus.MustNewConstMetric(waitingBytes, prometheus.GaugeValue, float64(s.Bytes))
}
