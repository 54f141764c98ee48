package edge

// Metrics that a device of ours sends with its heartbeats, in the dimension OurDimension.
const (
	OurDimension   = "Picket"
	MetricExpired  = "DocumentsExpired" // 1 where they are
	MetricProblem  = "CannotFollow"     // 1 where the device cannot follow
	MetricClock    = "ClockErrorSeconds"
	MetricRequests = "Requests"
	MetricFailures = "Failures"
	MetricP99      = "RunP99Micros"
)
