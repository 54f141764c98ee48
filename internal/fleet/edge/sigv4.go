package edge

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Skew is how far a client's clock may be from the server's.
const Skew = 15 * time.Minute

const (
	algorithm  = "AWS4-HMAC-SHA256"
	dateHeader = "X-Amz-Date"
	dateForm   = "20060102T150405Z"
	maxHeaders = 32
)

var (
	credentialForm = regexp.MustCompile(`^([A-Za-z0-9_]+)/([0-9]{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request$`)
	signatureForm  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// claim is what the Authorization of a request says.
type claim struct {
	key, date, region, service string
	headers                    []string
	signature                  string
}

func denied(status int, kind, format string, args ...any) *Error {
	return &Error{status, kind, fmt.Sprintf(format, args...)}
}

// parseClaim reads the header; it is bounded by net/http.
func parseClaim(header string) (claim, *Error) {
	var c claim
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return c, denied(http.StatusForbidden, "MissingAuthenticationTokenException", "the request is not signed with Signature Version 4")
	}
	bad := denied(http.StatusForbidden, "IncompleteSignatureException", "the Authorization header is not of its form")
	seen := map[string]bool{}
	for part := range strings.SplitSeq(rest, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || seen[key] {
			return c, bad
		}
		seen[key] = true
		switch key {
		case "Credential":
			m := credentialForm.FindStringSubmatch(value)
			if m == nil || len(m[1]) > 128 || len(m[3]) > 64 || len(m[4]) > 64 {
				return c, bad
			}
			c.key, c.date, c.region, c.service = m[1], m[2], m[3], m[4]
		case "SignedHeaders":
			c.headers = strings.Split(value, ";")
		case "Signature":
			c.signature = value
		default:
			return c, bad
		}
	}
	if c.key == "" || len(c.headers) == 0 || len(c.headers) > maxHeaders || !slices.IsSorted(c.headers) || !signatureForm.MatchString(c.signature) {
		return c, bad
	}
	return c, nil
}

// verify checks the signature of a request with this body, and gives the access key that
// made it. secretOf is the secret of a key.
func verify(r *http.Request, body []byte, secretOf func(key string) (string, bool), now time.Time) (string, *Error) {
	c, failed := parseClaim(r.Header.Get("Authorization"))
	if failed != nil {
		return "", failed
	}
	stamp := r.Header.Get(dateHeader)
	at, err := time.Parse(dateForm, stamp)
	if err != nil || !strings.HasPrefix(stamp, c.date) {
		return "", denied(http.StatusForbidden, "IncompleteSignatureException", "the request has no date, or another than its signature")
	}
	if !slices.Contains(c.headers, "host") || !slices.Contains(c.headers, "x-amz-date") {
		return "", denied(http.StatusForbidden, "IncompleteSignatureException", "the host and the date of the request are not signed")
	}
	secret, known := secretOf(c.key)
	// An unknown key takes as long as a wrong secret.
	signature := c.sign(r, body, secret, stamp)
	if same := hmac.Equal([]byte(signature), []byte(c.signature)); !same || !known || c.service != service {
		return "", denied(http.StatusForbidden, "UnrecognizedClientException", "the request is not signed with a key that is known here")
	}
	if skew := now.Sub(at); skew.Abs() > Skew {
		return "", denied(http.StatusForbidden, "RequestTimeTooSkewed", "the clocks differ by %v: the request was signed at %s, and it is %s here",
			skew.Abs().Round(time.Second), at.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return c.key, nil
}

// sign makes the signature that the request should have.
func (c claim) sign(r *http.Request, body []byte, secret, stamp string) string {
	var canonical strings.Builder
	fmt.Fprintf(&canonical, "%s\n%s\n%s\n", r.Method, r.URL.EscapedPath(), strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20"))
	for _, name := range c.headers {
		values := r.Header.Values(name)
		switch name {
		case "host":
			values = []string{r.Host}
		case "content-length": // net/http takes it out
			values = []string{fmt.Sprint(len(body))}
		}
		trimmed := make([]string, len(values))
		for i, v := range values {
			trimmed[i] = strings.Join(strings.Fields(v), " ")
		}
		fmt.Fprintf(&canonical, "%s:%s\n", name, strings.Join(trimmed, ","))
	}
	sum := sha256.Sum256(body)
	fmt.Fprintf(&canonical, "\n%s\n%s", strings.Join(c.headers, ";"), hex.EncodeToString(sum[:]))
	hashed := sha256.Sum256([]byte(canonical.String()))
	scope := c.date + "/" + c.region + "/" + c.service + "/aws4_request"
	toSign := algorithm + "\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(hashed[:])
	key := []byte("AWS4" + secret)
	for _, part := range []string{c.date, c.region, c.service, "aws4_request", toSign} {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(part))
		key = m.Sum(nil)
	}
	return hex.EncodeToString(key)
}
