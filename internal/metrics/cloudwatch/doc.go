// Package cloudwatch sends samples of the daemon's metrics to Amazon CloudWatch, by
// its API or as log lines in the embedded metric format.
//
// A sample is taken once in a period, becomes batches of at most what one request may
// hold, and each batch waits in a Backlog, on disk where there is a directory for it.
// The newest batch is sent first, so that what is seen is what is; those that could
// not be sent follow, with the time at which they were measured. CloudWatch takes what
// is up to two weeks old; what is older, and what there is no room for, is dropped and
// counted.
//
// Nothing here is on a request's way. A batch that was sent while the process ended,
// or whose acknowledgement was lost, may be sent twice: CloudWatch counts it twice
// then.
package cloudwatch
