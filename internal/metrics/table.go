package metrics

// Unit is what a metric counts in, as CloudWatch names it.
type Unit string

// The units.
const (
	Count        Unit = "Count"
	Microseconds Unit = "Microseconds"
	Seconds      Unit = "Seconds"
	Bytes        Unit = "Bytes"
	None         Unit = "None"
)

// Names of dimensions.
const (
	Fleet   = "Fleet"
	Device  = "Device"
	Model   = "Model"
	Version = "Version"
	Feature = "Feature"
)

// Metric is one thing that is measured. Whoever sends it sends it once for each of
// its Sets: CloudWatch adds nothing up by itself, so what is to be seen of a whole
// fleet is sent for the fleet as well.
type Metric struct {
	Name string
	Unit Unit
	Sets [][]string
	Help string
}

// What metrics of a kind are of.
var (
	ofHost    = [][]string{{Fleet}, {Fleet, Device}}
	ofModel   = [][]string{{Fleet, Model}, {Fleet, Device, Model, Version}}
	ofFeature = [][]string{{Fleet, Model, Feature}}
)

// The metrics.
var (
	Up           = &Metric{"Up", Count, ofHost, "1 from each daemon that runs; missing from one that does not"}
	LoadedModels = &Metric{"LoadedModels", Count, ofHost, "models that are loaded"}
	Backlog      = &Metric{"MetricsBacklog", Count, ofHost, "batches of metrics that wait to be sent"}
	Lost         = &Metric{"MetricsDropped", Count, ofHost, "metrics that were given up: too old, too many, or refused"}

	Requests  = &Metric{"Requests", Count, ofModel, "requests that were answered"}
	Failed    = &Metric{"FailedRequests", Count, ofModel, "those that failed for a reason of the daemon's or the model's"}
	Refused   = &Metric{"RefusedRequests", Count, ofModel, "those that were refused because of too much load: busy, out of memory, or too late for their deadline"}
	Invalid   = &Metric{"InvalidRequests", Count, ofModel, "those that did not fit the model"}
	Canceled  = &Metric{"CanceledRequests", Count, ofModel, "those whose client did not wait for the answer"}
	Rows      = &Metric{"Rows", Count, ofModel, "rows of the requests that were answered without an error"}
	Latency   = &Metric{"Latency", Microseconds, ofModel, "from a request's arrival to its answer"}
	QueueTime = &Metric{"QueueTime", Microseconds, ofModel, "from a request's arrival to when an instance took it"}
	RunTime   = &Metric{"RunTime", Microseconds, ofModel, "of one run of the model"}
	BatchRows = &Metric{"BatchRows", Count, ofModel, "rows of a run, on the average of a period"}
	Waiting   = &Metric{"WaitingRequests", Count, ofModel, "requests that wait at the end of a period"}

	Score       = &Metric{"Score", None, ofModel, "the model's answers, of the requests that were looked at"}
	ScorePSI    = &Metric{"ScorePSI", None, ofModel, "population stability index of the answers"}
	DriftPSI    = &Metric{"DriftPSI", None, ofFeature, "population stability index of a feature"}
	MaxDriftPSI = &Metric{"MaxDriftPSI", None, ofModel, "the largest DriftPSI of a model"}
	MissingRate = &Metric{"MissingRate", None, ofFeature, "the part of a feature's values that are missing"}
	MaxMissing  = &Metric{"MaxMissingIncrease", None, ofModel, "by how much the part of missing values is above the baseline's, for the feature where that is most"}

	CaptureAccepted = &Metric{"CaptureAccepted", Count, ofHost, "captured records that were made durable"}
	CaptureUploaded = &Metric{"CaptureUploaded", Count, ofHost, "captured records that have left"}
	CaptureDropped  = &Metric{"CaptureDropped", Count, ofHost, "captured records that were lost: for want of room, for age, for damage, or refused because capturing was behind"}
	CaptureOnDisk   = &Metric{"CaptureOnDisk", Count, ofHost, "captured records that wait on disk"}
	CaptureBytes    = &Metric{"CaptureBytes", Bytes, ofHost, "what they take"}
	CaptureAge      = &Metric{"CaptureOldestAge", Seconds, ofHost, "how long the oldest of them has waited"}
)

// All is the table.
func All() []*Metric {
	return []*Metric{
		Up, LoadedModels, Backlog, Lost,
		Requests, Failed, Refused, Invalid, Canceled, Rows, Latency, QueueTime, RunTime, BatchRows, Waiting,
		Score, ScorePSI, DriftPSI, MaxDriftPSI, MissingRate, MaxMissing,
		CaptureAccepted, CaptureUploaded, CaptureDropped, CaptureOnDisk, CaptureBytes, CaptureAge,
	}
}

// Labels say what a Reading is of. Which of them matter its Metric says.
type Labels struct{ Model, Version, Feature string }

// Reading is what was measured: values, each as often as Counts says; nil is once
// each.
type Reading struct {
	Metric *Metric
	Labels
	Values []float64
	Counts []float64
}

// One is a Reading of one value.
func One(m *Metric, l Labels, value float64) Reading {
	return Reading{Metric: m, Labels: l, Values: []float64{value}}
}
