package cloud

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/picket-ml/picket/internal/oserror"
)

// Error is what went wrong between this host and AWS, as the rest of a sentence that
// begins with what was being done.
type Error struct {
	// Reason is one sentence without a full stop: what is wrong, and what to do.
	Reason string
	// Temporary tells that it may go away by itself: the line is down, the store is
	// busy, credentials are being renewed.
	Temporary bool
	err       error
}

func (e *Error) Error() string { return e.Reason }
func (e *Error) Unwrap() error { return e.err }

// Explain makes an Error of what the SDK returned. Nil, an Error, and the end of ctx are
// left as they are; so is what has nothing to do with AWS, such as a full disk.
func Explain(err error) error {
	var known *Error
	var file *os.PathError
	switch {
	case err == nil, errors.As(err, &known), errors.As(err, &file), errors.Is(err, context.Canceled):
		return err
	}
	e := &Error{err: err}
	var credentials *credentialsError
	var answer *awshttp.ResponseError
	var api smithy.APIError
	switch {
	case errors.Is(err, errTooLong):
		e.Reason = errTooLong.Error()
	case errors.As(err, &credentials):
		e.Reason, e.Temporary = credentials.reason, credentials.temporary
	case errors.As(err, &answer) && answer.HTTPStatusCode() != 0:
		e.fromAnswer(answer, err)
	case errors.As(err, &api):
		e.fromCode(api.ErrorCode(), api.ErrorMessage(), 0, nil)
	case strings.Contains(err.Error(), "get credentials") || strings.Contains(err.Error(), "failed to refresh cached credentials"):
		e.noCredentials(err)
	case errors.Is(err, context.DeadlineExceeded):
		return err
	default:
		e.Reason, e.Temporary = network(err)
	}
	return e
}

// Temporary tells whether err may go away by itself.
func Temporary(err error) bool {
	var e *Error
	return errors.As(Explain(err), &e) && e.Temporary
}

// Code is the store's or service's own name for the error, such as NoSuchKey; the
// status of the answer, such as 404, where it gave none; empty where nobody answered.
func Code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		if code := api.ErrorCode(); code != "" && code != "UnknownError" {
			return code
		}
	}
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) && answer.HTTPStatusCode() != 0 {
		return fmt.Sprint(answer.HTTPStatusCode())
	}
	return ""
}

// NotFound tells that what was asked for is not there, bucket or object.
func NotFound(err error) bool {
	switch Code(err) {
	case "NoSuchKey", "NotFound", "NoSuchBucket", "NoSuchUpload", "404":
		return true
	}
	return false
}

// Denied tells that the store refused by policy or does not know the credentials.
func Denied(err error) bool {
	switch Code(err) {
	case "AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "UnauthorizedAccess", "401", "403":
		return true
	}
	return false
}

// Changed tells that a condition of the request does not hold: what is there is not what was
// expected to be.
func Changed(err error) bool {
	switch Code(err) {
	case "PreconditionFailed", "ConditionalRequestConflict", "412", "409":
		return true
	}
	return false
}

// expiredCodes say that credentials which were good are no longer.
var expiredCodes = []string{"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId", "UnrecognizedClientException"}

func expired(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && slices.Contains(expiredCodes, api.ErrorCode())
}

// fromAnswer is for what came with a status. An answer to HEAD has no code, so headers say more.
func (e *Error) fromAnswer(answer *awshttp.ResponseError, err error) {
	code, message := "", ""
	var api smithy.APIError
	if errors.As(err, &api) {
		code, message = api.ErrorCode(), api.ErrorMessage()
	}
	var header http.Header
	if answer.Response != nil && answer.Response.Response != nil {
		header = answer.Response.Header
	}
	e.fromCode(code, message, answer.HTTPStatusCode(), header)
}

func (e *Error) fromCode(code, message string, status int, header http.Header) {
	if off := clockOff(header); code == "RequestTimeTooSkewed" || (status == 403 || status == 400) && math.Abs(off.Minutes()) >= 5 {
		e.Reason = "the store refuses requests because this host's clock is wrong"
		if off != 0 {
			e.Reason += fmt.Sprintf(" by %s", off.Round(time.Second).Abs())
		}
		e.Reason += ": set it, best by NTP"
		return
	}
	switch code {
	case "AccessDenied", "AllAccessDisabled", "AccountProblem", "UnauthorizedAccess", "Forbidden":
		e.Reason = "access is denied: the policy of the bucket or of the credentials does not allow it"
	case "InvalidAccessKeyId", "UnrecognizedClientException":
		e.Reason = "the access key is not known there: it was deleted, or belongs to another store"
	case "SignatureDoesNotMatch":
		e.Reason = "the secret key does not belong to the access key"
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken":
		e.Reason = "the credentials have expired, and there are no newer ones: log in again, or use a role that renews them"
	case "NoSuchBucket":
		e.Reason = "there is no such bucket"
	case "NoSuchKey", "NotFound":
		e.Reason = "there is no such object"
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException":
		e.wrongRegion(message, header)
	case "PreconditionFailed", "ConditionalRequestConflict":
		e.Reason = "the object is not the one that was expected"
	case "EntityTooLarge":
		e.Reason = "the store takes no object of this size"
	case "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch":
		e.Reason, e.Temporary = "the bytes that arrived there are not those that were sent", true
	case "NotImplemented":
		e.Reason = "the store does not support what was asked: " + oneLine(errors.New(message)).Error()
	default:
		e.fromStatus(code, message, status, header)
	}
}

func (e *Error) fromStatus(code, message string, status int, header http.Header) {
	switch {
	case status == http.StatusMovedPermanently || status == http.StatusTemporaryRedirect:
		e.wrongRegion(message, header)
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		e.Reason = "access is denied: the policy of the bucket or of the credentials does not allow it"
	case status == http.StatusNotFound:
		e.Reason = "there is no such object, or no such bucket"
	case status == http.StatusPreconditionFailed:
		e.Reason = "the object is not the one that was expected"
	case status == http.StatusTooManyRequests || status >= 500 || status == http.StatusRequestTimeout:
		e.Reason, e.Temporary = "the store is busy or broken", true
	case status == 0:
		e.Reason, e.Temporary = "the store is busy", strings.Contains(code, "Throttl") || strings.Contains(code, "SlowDown") || strings.Contains(code, "TooManyRequests")
		if !e.Temporary {
			e.Reason = "it is refused"
		}
	default:
		e.Reason = "the store refuses"
	}
	if detail := said(code, message, status); detail != "" && status != http.StatusNotFound {
		e.Reason += " (" + detail + ")"
	}
}

// said is what the other side called it, on one line.
func said(code, message string, status int) string {
	text := strings.TrimSuffix(oneLine(errors.New(message)).Error(), ".")
	switch {
	case code == "" || code == "UnknownError":
		if status != 0 {
			return fmt.Sprintf("status %d", status)
		}
		return ""
	case text == "" || text == code:
		return code
	}
	return code + ": " + shortened(text)
}

// expectedRegion finds the region in what stores say of a request that is signed for another.
var expectedRegion = regexp.MustCompile(`expecting ['"]([a-z0-9-]{1,40})['"]`)

func (e *Error) wrongRegion(message string, header http.Header) {
	e.Reason = "the bucket is in another region than was asked: give its own as --region or aws.region"
	region := header.Get("X-Amz-Bucket-Region")
	if m := expectedRegion.FindStringSubmatch(message); region == "" && m != nil {
		region = m[1]
	}
	if regionName.MatchString(region) {
		e.Reason = fmt.Sprintf("the bucket is in the region %s and not in the one that was asked: give --region %s, or aws.region", region, region)
	}
}

// clockOff is how far this host's clock is ahead of the one that answered; 0 where that is not known.
func clockOff(header http.Header) time.Duration {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return 0
	}
	return time.Since(date)
}

func (e *Error) noCredentials(err error) {
	var wire net.Error
	var refused *net.OpError
	text := err.Error()
	switch {
	case strings.Contains(text, "no EC2 IMDS role found"), strings.Contains(text, "failed to load credentials"):
		e.Reason = "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, give --profile, or configure aws.role_alias"
	case errors.As(err, &refused), errors.As(err, &wire):
		reason, _ := network(err)
		e.Reason, e.Temporary = "fetching AWS credentials: "+reason, true
	default:
		_, cause, found := strings.Cut(text, "failed to refresh cached credentials, ")
		if !found {
			cause = text
		}
		e.Reason = "fetching AWS credentials: " + oneLine(errors.New(cause)).Error()
	}
}

// network is about connections and names: a sentence, and whether it may pass.
func network(err error) (reason string, temporary bool) {
	var name *net.DNSError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	var opened *net.OpError
	var asked *url.Error
	var timeout net.Error
	at := ""
	if errors.As(err, &asked) {
		if u, parsed := url.Parse(asked.URL); parsed == nil {
			at = " to " + u.Host
		}
	}
	switch {
	case errors.As(err, &name):
		return fmt.Sprintf("the name %s cannot be resolved: the network or its name server is down, or the name is wrong", name.Name), true
	case errors.As(err, &authority):
		return "the certificate of the other side is signed by nobody known here: give its authorities with --ca-bundle or aws.ca_bundle", false
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the certificate of the other side is not valid at %s, which this host takes for now: is the clock right?", time.Now().UTC().Format(time.RFC3339)), false
	case errors.As(err, &host):
		return oneLine(host).Error(), false
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "the other side speaks no TLS: does the endpoint begin with http://?", false
	case errors.As(err, &opened) && opened.Op == "remote error": // what crypto/tls makes of an alert
		return "the other side ends the TLS connection (" + opened.Err.Error() + "): it may not know this host's certificate", false
	case oserror.Refused(err):
		return "the connection" + at + " is refused: nobody listens there, or the network is down", true
	case oserror.Reset(err), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return "the connection" + at + " broke off", true
	case errors.As(err, &timeout) && timeout.Timeout():
		return "the other side does not answer: the network is down, or too slow", true
	case errors.As(err, &opened):
		return "the network is down: " + oneLine(opened.Err).Error(), true
	}
	return oneLine(err).Error(), false
}

// oneLine is an error on one line, without what would move a terminal's cursor: the other side may have written it.
func oneLine(err error) error {
	text := strings.Join(strings.FieldsFunc(strings.ToValidUTF8(err.Error(), "?"), func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	const longest = 300
	if len(text) > longest {
		text = text[:longest] + "..."
	}
	return errors.New(text)
}
