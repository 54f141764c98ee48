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
	pool := &http.Transport{MaxResponseHeaderBytes: maxIMDSBody}
	defer pool.CloseIdleConnections()
	transport := &imdsTransport{next: pool}
	endpoint := opts.IMDSEndpoint
	if endpoint == "" {
		endpoint = imdsEndpoint
	}
	client := imds.New(imds.Options{
		Endpoint: endpoint,
		HTTPClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Retryer:               aws.NopRetryer{},
		ClientEnableState:     imds.ClientEnabled,
		EnableFallback:        aws.FalseTernary, // version 1 answers to forged requests
		DisableDefaultTimeout: true,             // ctx is shorter
	})

	document, err := client.GetInstanceIdentityDocument(ctx, nil)
	if err != nil {
		return Instance{Reason: "this host is not known to be an EC2 instance: " + transport.reason(ctx)}
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
	i.OutpostARN, i.Reason = askOutpost(ctx, client, transport)
	return i
}

// askOutpost returns the ARN of the Outpost; neither ARN nor reason in a
// Region, where the service has no such entry.
func askOutpost(ctx context.Context, client *imds.Client, transport *imdsTransport) (arn, reason string) {
	const unknown = "whether this is an Outpost is unknown: "
	answer, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: "outpost-arn"})
	if err != nil {
		if transport.err == nil && transport.status == http.StatusNotFound {
			return "", ""
		}
		return "", unknown + transport.reason(ctx)
	}
	defer answer.Content.Close()
	text, err := io.ReadAll(answer.Content)
	if err != nil {
		return "", unknown + transport.reason(ctx)
	}
	arn = strings.TrimSpace(string(text))
	if !outpostARN.MatchString(arn) {
		return "", unknown + "the instance metadata service answered with something else than an Outpost ARN"
	}
	return arn, ""
}

func matching(form *regexp.Regexp, s string) string {
	if form.MatchString(s) {
		return s
	}
	return ""
}

// imdsTransport bounds the answers and remembers how the last exchange ended:
// the SDK hides the cause of a refused token inside an error that does not
// unwrap. It serves one request after the other, from one goroutine.
type imdsTransport struct {
	next   http.RoundTripper
	status int   // of the last answer, 0 if there was none
	err    error // of the last exchange without answer
}

func (t *imdsTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	if err != nil {
		t.status, t.err = 0, err
		return nil, err
	}
	t.status, t.err = response.StatusCode, nil
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxIMDSBody), response.Body}
	return response, nil
}

// reason says in people's words how the last exchange failed.
func (t *imdsTransport) reason(ctx context.Context) string {
	var op *net.OpError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Sprintf("the instance metadata service did not answer within %v", imdsBudget)
	case ctx.Err() != nil:
		return "asking the instance metadata service was cancelled"
	case errors.As(t.err, &op):
		return fmt.Sprintf("the instance metadata service cannot be reached: %v", op.Err)
	case t.status == http.StatusForbidden:
		return "the instance metadata service refused to answer (status 403), as it does where it is switched off"
	case t.status == http.StatusUnauthorized:
		return "the instance metadata service did not accept its own token (status 401)"
	case t.status >= 300:
		return fmt.Sprintf("the instance metadata service answered with status %d", t.status)
	}
	return "the instance metadata service gave no usable answer"
}
