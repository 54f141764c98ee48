// Package metrics says what the daemon measures for systems that it sends metrics to,
// in one table (All), and takes samples of it: what has happened since the sample
// before. internal/metrics/cloudwatch sends them. What Prometheus reads is in
// internal/server/oip; docs/metrics.md has both.
package metrics
