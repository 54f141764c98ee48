package config

import (
	"math"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// CloudWatch says what metrics are sent where.
type CloudWatch struct {
	// Enabled sends metrics to CloudWatch's API, which is reached as Config.AWS says.
	Enabled bool `yaml:"enabled"`
	// Endpoint is a URL instead of AWS's own; empty for that.
	Endpoint string `yaml:"endpoint"`
	// EMF is a file for the same metrics as log lines in the embedded metric format,
	// absolute, or "stdout"; empty for none.
	EMF string `yaml:"emf"`
	// Namespace, Fleet and Device are what metrics are sent under. Device is empty for
	// the host's name.
	Namespace string `yaml:"namespace"`
	Fleet     string `yaml:"fleet"`
	Device    string `yaml:"device"`
	// Period is what one value is of.
	Period time.Duration `yaml:"period"`
	// Timeout is how long one request may take.
	Timeout time.Duration `yaml:"timeout"`
	// MaxBacklog is how much may wait to be sent.
	MaxBacklog Size `yaml:"max_backlog"`
}

// Drift says how what models are asked is compared with the baseline in their
// packages while they serve.
type Drift struct {
	// Sample is the fraction of requests that is looked at; 0 for none.
	Sample float64 `yaml:"sample"`
	// Window is the time that is compared.
	Window time.Duration `yaml:"window"`
	// MinRows is from how many rows on there is a result.
	MinRows int `yaml:"min_rows"`
}

func defaultCloudWatch() CloudWatch {
	return CloudWatch{Namespace: "Picket", Fleet: "default", Period: time.Minute, Timeout: 20 * time.Second, MaxBacklog: 64 << 20}
}

func defaultDrift() Drift { return Drift{Sample: 0.1, Window: time.Hour, MinRows: 500} }

var (
	// What CloudWatch takes as a namespace, those that belong to AWS left out. How long it may be is counted: an expression that counts so far
	// takes milliseconds of each start of a program.
	namespace = regexp.MustCompile(`^[a-zA-Z0-9._/#][a-zA-Z0-9._/#:-]*$`)
	dimension = regexp.MustCompile(`^[!-~]([ -~]*[!-~])?$`)
)

// maxCloudWatchName is how many bytes either may have.
const maxCloudWatchName = 255

func fits(name string, as *regexp.Regexp) bool {
	return len(name) <= maxCloudWatchName && as.MatchString(name)
}

// check looks at no file.
func (c CloudWatch) check(k *checker) {
	if c.Endpoint != "" && !strings.HasPrefix(c.Endpoint, "https://") && !strings.HasPrefix(c.Endpoint, "http://") {
		k.add("cloudwatch.endpoint", "%s must begin with https:// or http://", quote(c.Endpoint))
	}
	if c.EMF != "" && c.EMF != "stdout" && !filepath.IsAbs(c.EMF) {
		k.add("cloudwatch.emf", "%s must be stdout or an absolute path", quote(c.EMF))
	}
	if !fits(c.Namespace, namespace) || strings.HasPrefix(c.Namespace, "AWS/") {
		k.add("cloudwatch.namespace", "%s is no namespace for metrics of one's own", quote(c.Namespace))
	}
	if !fits(c.Fleet, dimension) {
		k.add("cloudwatch.fleet", "%s is not 1 to 255 printable characters of ASCII", quote(c.Fleet))
	}
	if c.Device != "" && !fits(c.Device, dimension) {
		k.add("cloudwatch.device", "%s is not 1 to 255 printable characters of ASCII", quote(c.Device))
	}
	if c.Period < time.Second || c.Period > time.Hour || time.Hour%c.Period != 0 {
		k.add("cloudwatch.period", "%v is not a part of an hour from 1s to 1h0m0s", c.Period)
	}
	if c.Timeout < time.Second || c.Timeout > 5*time.Minute {
		k.add("cloudwatch.timeout", "%v is outside 1s to 5m0s", c.Timeout)
	}
	if c.MaxBacklog < 1<<20 || c.MaxBacklog > 1<<40 {
		k.add("cloudwatch.max_backlog", "%v is outside %v to %v", c.MaxBacklog, Size(1<<20), Size(1<<40))
	}
}

func (d Drift) check(k *checker) {
	if math.IsNaN(d.Sample) || d.Sample < 0 || d.Sample > 1 {
		k.add("drift.sample", "%v is outside 0 to 1", d.Sample)
	}
	if d.Window < time.Minute || d.Window > 7*24*time.Hour {
		k.add("drift.window", "%v is outside 1m0s to 168h0m0s", d.Window)
	}
	k.between("drift.min_rows", d.MinRows, 1, 1_000_000_000)
}
