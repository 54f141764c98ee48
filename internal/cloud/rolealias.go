package cloud

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// aliasTimeout is for one question to the credential endpoint.
	aliasTimeout = 30 * time.Second
	// maxAnswer is many times a session token.
	maxAnswer = 64 << 10
)

// deviceCredentials trade a device's certificate for credentials of a role.
type deviceCredentials struct{ alias RoleAlias }

// credentialsError says why there are no credentials.
type credentialsError struct {
	reason    string
	temporary bool
	err       error // may be nil
}

func (e *credentialsError) Error() string { return e.reason }
func (e *credentialsError) Unwrap() error { return e.err }

// Retrieve asks the endpoint once. The files are read each time, since a certificate is
// renewed under the same name.
func (d *deviceCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	client, err := d.client()
	if err != nil {
		return aws.Credentials{}, &credentialsError{reason: "reading the device's certificate: " + oneLine(err).Error(), err: err}
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, aliasTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.alias.URL, nil)
	if err != nil {
		return aws.Credentials{}, &credentialsError{reason: "asking for credentials: " + oneLine(err).Error(), err: err}
	}
	if d.alias.Thing != "" {
		request.Header.Set("x-amzn-iot-thingname", d.alias.Thing)
	}
	response, err := client.Do(request)
	if err != nil {
		reason, temporary := network(err)
		return aws.Credentials{}, &credentialsError{reason: "asking " + request.URL.Host + " for credentials: " + reason, temporary: temporary, err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return aws.Credentials{}, &credentialsError{reason: "asking " + request.URL.Host + " for credentials: the answer broke off", temporary: true, err: err}
	}
	if response.StatusCode != http.StatusOK {
		return aws.Credentials{}, refusal(request.URL.Host, response.StatusCode, body)
	}
	return parseCredentials(request.URL.Host, body)
}

// refusal is the endpoint's no.
func refusal(host string, status int, body []byte) *credentialsError {
	e := &credentialsError{temporary: status >= 500 || status == http.StatusTooManyRequests}
	var said struct {
		Message string `json:"message"`
	}
	reason := http.StatusText(status)
	if json.Unmarshal(body, &said) == nil && said.Message != "" {
		reason = shortened(oneLine(errors.New(said.Message)).Error())
	}
	e.reason = fmt.Sprintf("%s gives this device no credentials (%d: %s)", host, status, reason)
	if status == http.StatusForbidden {
		e.reason += ": its certificate must be active, and its policy must allow iot:AssumeRoleWithCertificate for the role alias"
	}
	return e
}

func parseCredentials(host string, body []byte) (aws.Credentials, error) {
	var answer struct {
		Credentials struct {
			AccessKeyID     string    `json:"accessKeyId"`
			SecretAccessKey string    `json:"secretAccessKey"`
			SessionToken    string    `json:"sessionToken"`
			Expiration      time.Time `json:"expiration"`
		} `json:"credentials"`
	}
	err := json.Unmarshal(body, &answer)
	c := answer.Credentials
	if err != nil || c.AccessKeyID == "" || c.SecretAccessKey == "" || c.Expiration.IsZero() {
		return aws.Credentials{}, &credentialsError{reason: host + " answers, but not with credentials: is role_alias.url right?", err: err}
	}
	return aws.Credentials{
		AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken,
		CanExpire: true, Expires: c.Expiration, Source: "PicketRoleAlias",
	}, nil
}

func (d *deviceCredentials) client() (*http.Client, error) {
	certificate, err := readPEM(d.alias.Certificate)
	if err != nil {
		return nil, err
	}
	key, err := readPEM(d.alias.Key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", d.alias.Certificate, d.alias.Key, err)
	}
	secured := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if d.alias.CA != "" {
		pem, err := readPEM(d.alias.CA)
		if err != nil {
			return nil, err
		}
		secured.RootCAs = x509.NewCertPool()
		if !secured.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("there is no certificate in %s", d.alias.CA)
		}
	}
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: secured, Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: dialTimeout},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("it redirects, which a credential endpoint does not")
		},
	}, nil
}
