package pipeline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/picket-ml/picket/internal/cloud"
)

// The four calls to SageMaker that a pipeline makes, as they go over the wire (JSON 1.1). The types have what is sent and
// what is read; --plan prints these very bodies.

type trainingRequest struct {
	TrainingJobName        string
	AlgorithmSpecification algorithm
	RoleArn                string
	HyperParameters        map[string]string `json:",omitempty"`
	InputDataConfig        []channel
	OutputDataConfig       outputPath
	ResourceConfig         resources
	StoppingCondition      trainingLimits
	VpcConfig              *vpc `json:",omitempty"`
	EnableNetworkIsolation bool `json:",omitempty"`
	EnableManagedSpot      bool `json:"EnableManagedSpotTraining,omitempty"`
	Tags                   []tag
}

type algorithm struct {
	TrainingImage     string
	TrainingInputMode string
}

type channel struct {
	ChannelName string
	DataSource  dataSource
	ContentType string
	InputMode   string
}

type dataSource struct{ S3DataSource s3DataSource }

type s3DataSource struct {
	S3DataType             string
	S3Uri                  string
	S3DataDistributionType string
}

type outputPath struct {
	S3OutputPath string
	KmsKeyId     string `json:",omitempty"`
}

type resources struct {
	InstanceType   string
	InstanceCount  int
	VolumeSizeInGB int64
	VolumeKmsKeyId string `json:",omitempty"`
}

type trainingLimits struct {
	MaxRuntimeInSeconds  int64
	MaxWaitTimeInSeconds int64 `json:",omitempty"`
}

type compilationLimits struct{ MaxRuntimeInSeconds int64 }

type vpc struct {
	SecurityGroupIds []string
	Subnets          []string
}

type tag struct{ Key, Value string }

type compilationRequest struct {
	CompilationJobName string
	RoleArn            string
	InputConfig        compilationInput
	OutputConfig       compilationOutput
	StoppingCondition  compilationLimits
	VpcConfig          *vpc `json:",omitempty"`
	Tags               []tag
}

type compilationInput struct {
	S3Uri            string
	DataInputConfig  string
	Framework        string
	FrameworkVersion string `json:",omitempty"`
}

type compilationOutput struct {
	S3OutputLocation string
	TargetDevice     string    `json:",omitempty"`
	TargetPlatform   *platform `json:",omitempty"`
	CompilerOptions  string    `json:",omitempty"`
	KmsKeyId         string    `json:",omitempty"`
}

type platform struct {
	Os          string
	Arch        string
	Accelerator string `json:",omitempty"`
}

// jobStatus is what is read of either kind of job.
type jobStatus struct {
	TrainingJobStatus    string
	CompilationJobStatus string
	SecondaryStatus      string
	FailureReason        string
	ModelArtifacts       struct{ S3ModelArtifacts string }
	ModelDigests         struct{ ArtifactDigest string }

	SecondaryStatusTransitions []struct{ Status, StatusMessage string }
}

// Ends of a job, whatever its kind: the two write them differently.
const (
	jobRuns      = "INPROGRESS"
	jobCompleted = "COMPLETED"
	jobFailed    = "FAILED"
	jobStopped   = "STOPPED"
)

// state is where the job is, in one spelling.
func (s *jobStatus) state() string {
	switch state := strings.ToUpper(s.TrainingJobStatus + s.CompilationJobStatus); state {
	case jobCompleted, jobFailed, jobStopped:
		return state
	}
	return jobRuns
}

// now says what a running job does.
func (s *jobStatus) now() string {
	text := s.SecondaryStatus
	if n := len(s.SecondaryStatusTransitions); n > 0 && s.SecondaryStatusTransitions[n-1].StatusMessage != "" {
		text = s.SecondaryStatusTransitions[n-1].Status + ": " + s.SecondaryStatusTransitions[n-1].StatusMessage
	}
	if text == "" {
		text = s.TrainingJobStatus + s.CompilationJobStatus
	}
	return oneLine(text)
}

// service is SageMaker. Its methods may be called by any goroutine.
type service struct {
	config   aws.Config
	endpoint string
}

const (
	serviceTimeout  = 60 * time.Second // of one request
	maxServiceReply = 16 << 20
	maxReason       = 1024
)

func newService(config aws.Config, endpoint string) *service {
	return &service{config: config, endpoint: serviceEndpoint(config.Region, endpoint)}
}

// serviceEndpoint is where SageMaker is reached: at AWS, unless another place is given.
func serviceEndpoint(region, endpoint string) string {
	if endpoint == "" {
		suffix := "amazonaws.com"
		if strings.HasPrefix(region, "cn-") {
			suffix += ".cn"
		}
		endpoint = fmt.Sprintf("https://api.sagemaker.%s.%s", region, suffix)
	}
	return strings.TrimSuffix(endpoint, "/") + "/"
}

// errNoJob: no job has that name.
var errNoJob = errors.New("there is no such job")

// errJobExists: a job has that name already.
var errJobExists = errors.New("a job of that name is there already")

// call makes one call, once. Errors are those of cloud, which says whether it may pass, or wrap errNoJob or errJobExists.
func (s *service) call(ctx context.Context, operation string, request, reply any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("writing the request %s: %w", operation, err)
	}
	ctx, cancel := context.WithTimeout(ctx, serviceTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoint, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the endpoint of SageMaker: %w", err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "SageMaker."+operation)
	credentials, err := s.config.Credentials.Retrieve(ctx)
	if err != nil {
		return cloud.Explain(fmt.Errorf("get credentials: %w", err))
	}
	digest := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, credentials, r, hex.EncodeToString(digest[:]), "sagemaker", s.config.Region, time.Now()); err != nil {
		return fmt.Errorf("signing the request %s: %w", operation, err)
	}
	answer, err := s.config.HTTPClient.Do(r)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
			return &cloud.Error{Reason: "SageMaker does not answer", Temporary: true}
		}
		return cloud.Explain(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxServiceReply+1))
	if err != nil {
		return cloud.Explain(err)
	}
	if answer.StatusCode != http.StatusOK {
		return s.refusal(answer, data, credentials.CanExpire)
	}
	if len(data) > maxServiceReply || json.Unmarshal(data, reply) != nil {
		return &cloud.Error{Reason: "the answer of SageMaker is no JSON of a sensible size; is the endpoint the right one?"}
	}
	return nil
}

// refusal makes an error of an answer that is one. Credentials that can be renewed are, where they have expired.
func (s *service) refusal(answer *http.Response, data []byte, renewable bool) error {
	var said struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
		Capital string `json:"Message"`
	}
	_ = json.Unmarshal(data, &said) // a proxy's page has no code
	code := said.Type
	if h := answer.Header.Get("X-Amzn-Errortype"); code == "" {
		code = h
	}
	code, _, _ = strings.Cut(code[strings.LastIndexByte(code, '#')+1:], ":")
	message := oneLine(said.Message + said.Capital)
	if len(message) > maxReason {
		message = message[:maxReason] + "..."
	}
	lower := strings.ToLower(message)
	switch {
	case code == "ResourceNotFound", code == "ValidationException" && (strings.Contains(lower, "could not find") || strings.Contains(lower, "not found") || strings.Contains(lower, "does not exist")):
		return fmt.Errorf("%w: %s", errNoJob, message)
	case code == "ResourceInUse", strings.Contains(lower, "already exists"):
		return errJobExists
	case code == "ResourceLimitExceeded":
		return &cloud.Error{Reason: "a limit of the account is reached (" + message + "): wait for other jobs to end, or ask AWS for more"}
	case code == "ExpiredTokenException" || code == "ExpiredToken":
		if cache, ok := s.config.Credentials.(*aws.CredentialsCache); ok {
			cache.Invalidate()
		}
		return &cloud.Error{Reason: "the credentials have expired: log in again, and run the pipeline again, which goes on", Temporary: renewable}
	case strings.Contains(code, "Throttl") || strings.Contains(code, "TooManyRequests") || strings.Contains(code, "LimitExceeded") && strings.Contains(lower, "rate"),
		answer.StatusCode >= 500, answer.StatusCode == http.StatusTooManyRequests:
		return &cloud.Error{Reason: "SageMaker is busy or broken (" + reasonOf(code, message, answer.StatusCode) + ")", Temporary: true}
	case strings.Contains(code, "AccessDenied"):
		return &cloud.Error{Reason: "the credentials may not do this (" + message + "): docs/pipeline.md lists the permissions"}
	}
	return &cloud.Error{Reason: "SageMaker refuses it (" + reasonOf(code, message, answer.StatusCode) + ")"}
}

func reasonOf(code, message string, status int) string {
	switch {
	case code == "" && message == "":
		return fmt.Sprintf("status %d", status)
	case message == "":
		return code
	case code == "":
		return message
	}
	return code + ": " + message
}

// oneLine is text that came from elsewhere, on one line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
