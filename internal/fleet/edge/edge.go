// Package edge is the device runtime API of SageMaker Edge Manager, sagemaker-edge of
// 2020-09-23: three calls, JSON over HTTP, signed with Signature Version 4. AWS answers
// none of them any more. A Client is a device's side, a Handler a server's.
package edge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/picket-ml/picket/packaging"
)

// Operations are the paths of the calls.
const (
	opRegistration = "/GetDeviceRegistration"
	opHeartbeat    = "/SendHeartbeat"
	opDeployments  = "/GetDeployments"

	// service is what requests are signed for.
	service = "sagemaker"
)

// Limits of the messages.
const (
	// maxBody is how large a message may be.
	maxBody = 1 << 20

	maxDepth    = 8
	maxModels   = 256
	maxMetrics  = 256
	maxText     = 1024
	maxMessage  = 8 << 10
	maxDocument = 256 << 10
)

// Time is a point in time as the API has it: seconds since 1970, with a fraction.
type Time struct{ time.Time }

// MarshalJSON writes milliseconds, as old clients do.
func (t Time) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.3f", float64(t.UnixMilli())/1000), nil
}

// UnmarshalJSON takes numbers alone. null leaves it zero.
func (t *Time) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	var seconds float64
	if err := json.Unmarshal(data, &seconds); err != nil {
		return errors.New("a time is no number of seconds")
	}
	if !(math.Abs(seconds) < 1e11) { // some thousand years
		return errors.New("a time is out of range")
	}
	t.Time = time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()
	return nil
}

// Device names who asks.
type Device struct {
	Name  string `json:"DeviceName"`
	Fleet string `json:"DeviceFleetName"`
}

// Registration is the answer of GetDeviceRegistration.
type Registration struct {
	DeviceRegistration string `json:"DeviceRegistration"`
	CacheTTL           string `json:"CacheTTL"` // seconds
}

// Metric is one measurement.
type Metric struct {
	Dimension  string  `json:"Dimension,omitempty"`
	MetricName string  `json:"MetricName,omitempty"`
	Value      float64 `json:"Value"`
	Timestamp  *Time   `json:"Timestamp,omitempty"`
}

// Model is one that a device serves.
type Model struct {
	ModelName        string   `json:"ModelName,omitempty"`
	ModelVersion     string   `json:"ModelVersion,omitempty"`
	LatestSampleTime *Time    `json:"LatestSampleTime,omitempty"`
	LatestInference  *Time    `json:"LatestInference,omitempty"`
	ModelMetrics     []Metric `json:"ModelMetrics,omitempty"`
}

// What becomes of a model, and of a deployment.
const (
	Deploy     = "DEPLOY"
	Undeploy   = "UNDEPLOY"
	Success    = "SUCCESS"
	Fail       = "FAIL"
	InProgress = "IN_PROGRESS"
)

// DeploymentModel is what became of one model of a deployment.
type DeploymentModel struct {
	ModelHandle           string `json:"ModelHandle,omitempty"`
	ModelName             string `json:"ModelName,omitempty"`
	ModelVersion          string `json:"ModelVersion,omitempty"`
	DesiredState          string `json:"DesiredState,omitempty"`
	State                 string `json:"State,omitempty"`
	Status                string `json:"Status,omitempty"`
	StatusReason          string `json:"StatusReason,omitempty"`
	RollbackFailureReason string `json:"RollbackFailureReason,omitempty"`
}

// DeploymentResult is what became of a deployment.
type DeploymentResult struct {
	DeploymentName          string            `json:"DeploymentName,omitempty"`
	DeploymentStatus        string            `json:"DeploymentStatus,omitempty"`
	DeploymentStatusMessage string            `json:"DeploymentStatusMessage,omitempty"`
	DeploymentStartTime     *Time             `json:"DeploymentStartTime,omitempty"`
	DeploymentEndTime       *Time             `json:"DeploymentEndTime,omitempty"`
	DeploymentModels        []DeploymentModel `json:"DeploymentModels,omitempty"`
}

// Heartbeat is what SendHeartbeat brings.
type Heartbeat struct {
	Device
	AgentVersion     string            `json:"AgentVersion"`
	AgentMetrics     []Metric          `json:"AgentMetrics,omitempty"`
	Models           []Model           `json:"Models,omitempty"`
	DeploymentResult *DeploymentResult `json:"DeploymentResult,omitempty"`
}

// Checksum is of a file.
type Checksum struct {
	Type string `json:"Type"` // SHA1
	Sum  string `json:"Sum"`
}

// Definition is one model of a deployment.
type Definition struct {
	ModelHandle string   `json:"ModelHandle"`
	S3URL       string   `json:"S3Url"`
	Checksum    Checksum `json:"Checksum"`
	State       string   `json:"State"`
}

// Deployment is what a device should do.
type Deployment struct {
	DeploymentName        string       `json:"DeploymentName"`
	Type                  string       `json:"Type"` // Model
	FailureHandlingPolicy string       `json:"FailureHandlingPolicy"`
	Definitions           []Definition `json:"Definitions"`
}

// Deployments is the answer of GetDeployments.
type Deployments struct {
	Deployments []Deployment `json:"Deployments"`
}

var (
	name       = regexp.MustCompile(`^[a-zA-Z0-9](?:-*_*[a-zA-Z0-9])*$`)
	agent      = regexp.MustCompile(`^[a-zA-Z0-9 _.]+$`)
	dimension  = regexp.MustCompile(`^[a-zA-Z0-9](?:-*[a-zA-Z0-9/])*$`)
	metricName = regexp.MustCompile(`^[a-zA-Z0-9](?:-*[a-zA-Z0-9])*$`)
)

func (d Device) check() error {
	for _, f := range []struct{ key, value string }{{"DeviceName", d.Name}, {"DeviceFleetName", d.Fleet}} {
		if f.value == "" {
			return fmt.Errorf("%s is missing", f.key)
		}
		if len(f.value) > 63 || !name.MatchString(f.value) {
			return fmt.Errorf("%s is no name: 1 to 63 letters, digits and inner hyphens", f.key)
		}
	}
	return nil
}

func (m Metric) check() error {
	if len(m.Dimension) > 1000 || m.Dimension != "" && !dimension.MatchString(m.Dimension) {
		return errors.New("a Dimension is none")
	}
	if m.MetricName != "" && (len(m.MetricName) < 4 || len(m.MetricName) > 100 || !metricName.MatchString(m.MetricName)) {
		return errors.New("a MetricName is none")
	}
	return nil
}

// text bounds a text that has no form.
func text(key, value string, limit int) error {
	if len(value) > limit || !utf8.ValidString(value) {
		return fmt.Errorf("%s is longer than %d bytes or no UTF-8", key, limit)
	}
	return nil
}

func (h *Heartbeat) check() error {
	if err := h.Device.check(); err != nil {
		return err
	}
	if len(h.AgentVersion) < 1 || len(h.AgentVersion) > 64 || !agent.MatchString(h.AgentVersion) {
		return errors.New("AgentVersion is none: 1 to 64 letters, digits, blanks, points and underscores")
	}
	if len(h.Models) > maxModels || len(h.AgentMetrics) > maxMetrics {
		return fmt.Errorf("there are more than %d models or %d metrics", maxModels, maxMetrics)
	}
	for _, m := range h.AgentMetrics {
		if err := m.check(); err != nil {
			return err
		}
	}
	for _, m := range h.Models {
		// The API wants 4 bytes at least; models of ours may have shorter names.
		if len(m.ModelName) > 255 || m.ModelName != "" && !name.MatchString(m.ModelName) {
			return errors.New("a ModelName is none: 1 to 255 letters, digits and inner hyphens")
		}
		if m.ModelVersion != "" && (len(m.ModelVersion) > 64 || !agent.MatchString(m.ModelVersion)) {
			return errors.New("a ModelVersion is none")
		}
		if len(m.ModelMetrics) > maxMetrics {
			return fmt.Errorf("a model has more than %d metrics", maxMetrics)
		}
		for _, metric := range m.ModelMetrics {
			if err := metric.check(); err != nil {
				return err
			}
		}
	}
	return h.DeploymentResult.check()
}

func (r *DeploymentResult) check() error {
	if r == nil {
		return nil
	}
	err := errors.Join(text("DeploymentName", r.DeploymentName, 255), text("DeploymentStatus", r.DeploymentStatus, 64),
		text("DeploymentStatusMessage", r.DeploymentStatusMessage, maxMessage))
	if err != nil {
		return err
	}
	if len(r.DeploymentModels) > maxModels {
		return fmt.Errorf("a deployment has more than %d models", maxModels)
	}
	for _, m := range r.DeploymentModels {
		for _, f := range []struct{ key, value string }{
			{"ModelHandle", m.ModelHandle}, {"ModelName", m.ModelName}, {"ModelVersion", m.ModelVersion}, {"StatusReason", m.StatusReason},
			{"RollbackFailureReason", m.RollbackFailureReason},
		} {
			if err := text(f.key, f.value, maxText); err != nil {
				return err
			}
		}
		for _, s := range []string{m.DesiredState, m.State} {
			if s != "" && s != Deploy && s != Undeploy {
				return errors.New("the state of a model is neither DEPLOY nor UNDEPLOY")
			}
		}
		if m.Status != "" && m.Status != Success && m.Status != Fail {
			return errors.New("the status of a model is neither SUCCESS nor FAIL")
		}
	}
	return nil
}

func (d *Deployments) check() error {
	if len(d.Deployments) > maxModels {
		return fmt.Errorf("there are more than %d deployments", maxModels)
	}
	for _, one := range d.Deployments {
		if len(one.Definitions) > maxModels {
			return fmt.Errorf("a deployment has more than %d models", maxModels)
		}
	}
	return nil
}

// decode reads a message of bounded size and depth. Keys that are not known are left
// alone: later clients may have some.
func decode(data []byte, to any) error {
	if len(data) > maxBody {
		return fmt.Errorf("the message has more than %d bytes", maxBody)
	}
	if err := packaging.CheckJSON(data, maxDepth); err != nil {
		return fmt.Errorf("the message is not JSON as it should be: %w", err)
	}
	if trimmed := bytes.TrimSpace(data); len(trimmed) == 0 || trimmed[0] != '{' {
		return errors.New("the message is no JSON object")
	}
	if err := json.Unmarshal(data, to); err != nil {
		return fmt.Errorf("the message is not of its form: %s", strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return nil
}

// Error is what a server answers other than success.
type Error struct {
	Status int
	// Type is such as "InternalServiceException", the one that the API knows.
	Type    string
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Type, e.Message) }

// The errors of a Handler.
func badRequest(err error) *Error {
	return &Error{http.StatusBadRequest, "ValidationException", err.Error()}
}
