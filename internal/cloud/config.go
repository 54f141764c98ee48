package cloud

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
)

const (
	dialTimeout = 15 * time.Second
	// silence is how long a connection may neither bring nor take a byte while an
	// answer is awaited. S3 may take most of a minute to put an upload together.
	silence = 90 * time.Second
	// refreshEarly is how long before their end credentials are fetched again.
	refreshEarly = 2 * time.Minute
	// maxPEM is far above any bundle of authorities.
	maxPEM = 8 << 20
)

// Config is the SDK's configuration for any service. What is made of it shares one pool
// of connections, one cache of credentials and one limit of bandwidth, so a process
// calls this once. Nobody is asked yet, except where the SDK's chain asks for a region.
func (o Options) Config(ctx context.Context) (aws.Config, error) {
	var wrong []error
	o.Check(func(key, sentence string) { wrong = append(wrong, fmt.Errorf("%s %s", key, sentence)) })
	if len(wrong) > 0 {
		return aws.Config{}, errors.Join(wrong...)
	}
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(o.httpClient()),
		config.WithCredentialsCacheOptions(cacheOptions),
		// What matters of what the SDK would write to standard error is in the errors.
		config.WithLogger(logging.Nop{}),
	}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	if o.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(o.Profile))
	}
	if o.CABundle != "" {
		pem, err := readPEM(o.CABundle)
		if err != nil {
			return aws.Config{}, fmt.Errorf("reading the bundle of authorities: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return aws.Config{}, fmt.Errorf("reading the bundle of authorities: there is no certificate in %s", o.CABundle)
		}
		load = append(load, config.WithCustomCABundle(bytes.NewReader(pem)))
	}
	switch {
	case o.Credentials != nil:
		load = append(load, config.WithCredentialsProvider(aws.NewCredentialsCache(o.Credentials, cacheOptions)))
	case o.RoleAlias.URL != "":
		load = append(load, config.WithCredentialsProvider(aws.NewCredentialsCache(&deviceCredentials{alias: o.RoleAlias}, cacheOptions)))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("reading the AWS configuration: %w", oneLine(err))
	}
	if cfg.Region == "" {
		if o.Endpoint == "" {
			return aws.Config{}, errors.New("no AWS region is known: give --region, aws.region in the configuration, or $AWS_REGION")
		}
		cfg.Region = "us-east-1" // what stores that have no regions sign for
	}
	credentials := cfg.Credentials
	cfg.Retryer = func() aws.Retryer { return newRetryer(credentials) }
	if own, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok { // it is httpClient's, with the bundle of authorities
		cfg.HTTPClient = newBounded(own)
	}
	return cfg, nil
}

// S3 is Config and Client in one, for a program that transfers once.
func (o Options) S3(ctx context.Context) (*s3.Client, error) {
	cfg, err := o.Config(ctx)
	if err != nil {
		return nil, err
	}
	return o.Client(cfg), nil
}

// Client makes a client of S3, or of the store at Endpoint, from what Config returned.
func (o Options) Client(cfg aws.Config) *s3.Client {
	return s3.NewFromConfig(cfg, func(s *s3.Options) {
		s.UsePathStyle = o.pathStyle()
		if o.Endpoint != "" {
			s.BaseEndpoint = aws.String(o.Endpoint)
		}
		// Downloads are checked against digests of our own; a range of an object has no
		// checksum anyhow.
		s.DisableLogOutputChecksumValidationSkipped = true
	})
}

func cacheOptions(c *aws.CredentialsCacheOptions) {
	c.ExpiryWindow = refreshEarly
	c.ExpiryWindowJitterFrac = 0.5
}

// httpClient is the SDK's own client, on connections that are limited and do not hang.
func (o Options) httpClient() *awshttp.BuildableClient {
	limiter := o.Limiter
	if limiter == nil {
		limiter = o.Bandwidth.Limit()
	}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	return awshttp.NewBuildableClient().WithReadTimeout(0).WithTransportOptions(func(t *http.Transport) {
		t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return newConn(c, limiter), nil
		}
		t.MaxIdleConnsPerHost = 64
		t.TLSClientConfig.MinVersion = tls.VersionTLS12
		// An answer may be kept for minutes by a store that is busy, but not its first byte
		// for ever: conn sees to that, for bodies too.
		t.WriteBufferSize, t.ReadBufferSize = 64<<10, 64<<10
	})
}

// readPEM reads a file that is named by the user.
func readPEM(path string) ([]byte, error) {
	path, err := absolute(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxPEM {
		return nil, fmt.Errorf("%s is no PEM file", path)
	}
	return os.ReadFile(path)
}

// attempts is how often the SDK itself tries a request: enough for a connection that
// was closed while it idled and a store that says to slow down. Retry outlives more.
const attempts = 3

// retryer is the SDK's own, without a budget that an outage would use up, which fetches
// new credentials where the store no longer takes those that it was shown.
type retryer struct {
	*retry.Standard
	credentials aws.CredentialsProvider
}

func newRetryer(credentials aws.CredentialsProvider) aws.Retryer {
	return &retryer{
		Standard: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff, o.RateLimiter = attempts, time.Second, ratelimit.None
		}),
		credentials: credentials,
	}
}

// IsErrorRetryable tells whether the request may succeed if it is sent again.
func (r *retryer) IsErrorRetryable(err error) bool {
	if expired(err) {
		if cache, ok := r.credentials.(*aws.CredentialsCache); ok {
			cache.Invalidate()
			return true
		}
	}
	return r.Standard.IsErrorRetryable(err)
}
