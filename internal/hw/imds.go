package hw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	// imdsBudget bounds all requests to the metadata service together. It
	// answers in about a millisecond where it exists; off EC2 packets to its
	// address often go nowhere.
	imdsBudget = 200 * time.Millisecond

	// imdsEndpoint is the link-local address of the service.
	imdsEndpoint = "http://169.254.169.254"

	// maxIMDSBody bounds each answer: off EC2 anybody may own the address.
	maxIMDSBody = 64 << 10
)

// What the service may answer; anything else is not shown to people.
var (
	instanceID       = regexp.MustCompile(`^i-[0-9a-f]{8,32}$`)
	regionName       = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]{2,16}){1,3}-[0-9]{1,2}$`)
	availabilityZone = regexp.MustCompile(`^[a-z0-9-]{4,64}$`)
	outpostARN       = regexp.MustCompile(`^arn:aws[a-z-]{0,16}:outposts:[a-z0-9-]{4,32}:[0-9]{12}:outpost/op-[0-9a-f]{8,32}$`)
)

// DetectInstance finds out which EC2 instance this is, through version 2 of
// the instance metadata service, in 200 ms at most and without retries. It
// does not fail: Instance.Reason says what stayed unknown. A caller that
// cannot spare the time runs it in a goroutine of its own. With
// Options.InstanceType or Options.NoIMDS set it does not touch the network.
func DetectInstance(ctx context.Context, opts Options) Instance {
	if opts.InstanceType != "" || opts.NoIMDS {
		return instanceBeforeAsking(opts)
	}
	ctx, cancel := context.WithTimeout(ctx, imdsBudget)
	defer cancel()

	// One connection carries the token and both questions and is closed
	// afterwards. No proxy: the address is link-local by definition. No
	// redirects: nobody but the service itself may answer.
	transport := &http.Transport{
		DialContext:            (&net.Dialer{}).DialContext,
		MaxResponseHeaderBytes: maxIMDSBody,
	}
	defer transport.CloseIdleConnections()
	endpoint := opts.IMDSEndpoint
	if endpoint == "" {
		endpoint = imdsEndpoint
	}
	client := imds.New(imds.Options{
		Endpoint: endpoint,
		HTTPClient: &http.Client{
			Transport:     boundedBodies{transport},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Retryer:               aws.NopRetryer{},
		ClientEnableState:     imds.ClientEnabled,
		EnableFallback:        aws.FalseTernary, // version 1 answers to forged requests
		DisableDefaultTimeout: true,             // ctx is shorter
	})

	document, err := client.GetInstanceIdentityDocument(ctx, nil)
	if err != nil {
		return Instance{Reason: "this host is not known to be an EC2 instance: " + imdsReason(err)}
	}
	if !validInstanceType(document.InstanceType) {
		return Instance{Reason: "the instance metadata service answered without an instance type"}
	}
	i := Instance{
		Type:             document.InstanceType,
		ID:               matching(instanceID, document.InstanceID),
		Region:           matching(regionName, document.Region),
		AvailabilityZone: matching(availabilityZone, document.AvailabilityZone),
		Source:           sourceIMDS,
	}
	i.Family, i.Outposts = familyOf(i.Type)
	i.OutpostARN, i.Reason = askOutpost(ctx, client)
	return i
}

// askOutpost returns the ARN of the Outpost; neither ARN nor reason in a
// Region, where the service has no such entry.
func askOutpost(ctx context.Context, client *imds.Client) (arn, reason string) {
	answer, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: "outpost-arn"})
	if err != nil {
		var response *smithyhttp.ResponseError
		if errors.As(err, &response) && response.HTTPStatusCode() == http.StatusNotFound {
			return "", ""
		}
		return "", "whether this is an Outpost is unknown: " + imdsReason(err)
	}
	defer answer.Content.Close()
	text, err := io.ReadAll(answer.Content)
	if err != nil {
		return "", "whether this is an Outpost is unknown: " + imdsReason(err)
	}
	arn = strings.TrimSpace(string(text))
	if !outpostARN.MatchString(arn) {
		return "", "whether this is an Outpost is unknown: the instance metadata service answered with something else than an Outpost ARN"
	}
	return arn, ""
}

// imdsReason shortens the SDK's nested errors to the part people can act on.
func imdsReason(err error) string {
	var response *smithyhttp.ResponseError
	var failed net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &failed) && failed.Timeout():
		return fmt.Sprintf("the instance metadata service did not answer within %v", imdsBudget)
	case errors.Is(err, context.Canceled):
		return "asking the instance metadata service was cancelled"
	case errors.As(err, &response) && response.HTTPStatusCode() == http.StatusForbidden:
		return "the instance metadata service is switched off for this instance (status 403)"
	case errors.As(err, &response) && response.HTTPStatusCode() == http.StatusUnauthorized:
		return "the instance metadata service did not accept its own token (status 401)"
	case errors.As(err, &response):
		return fmt.Sprintf("the instance metadata service answered with status %d", response.HTTPStatusCode())
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Sprintf("the instance metadata service cannot be reached: %v", op.Err)
	}
	return "the instance metadata service gave no usable answer"
}

func matching(form *regexp.Regexp, s string) string {
	if form.MatchString(s) {
		return s
	}
	return ""
}

// boundedBodies is a transport whose answers end at maxIMDSBody.
type boundedBodies struct{ http.RoundTripper }

func (t boundedBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxIMDSBody), response.Body}
	return response, nil
}
