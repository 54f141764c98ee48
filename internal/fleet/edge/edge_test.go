package edge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

const (
	testKey    = "PKTEST"
	testSecret = "a-secret-of-a-test"
)

// backend remembers what came.
type backend struct {
	mu    sync.Mutex
	beats []*Heartbeat
	fails error
}

func (b *backend) Registration(_ context.Context, d Device) (*Registration, error) {
	return &Registration{`{"device":"` + d.Name + `"}`, "60"}, b.fails
}

func (b *backend) Heartbeat(_ context.Context, h *Heartbeat) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.beats = append(b.beats, h)
	return b.fails
}

func (b *backend) Deployments(context.Context, Device) (*Deployments, error) {
	return &Deployments{[]Deployment{{DeploymentName: "d", Type: "Model", FailureHandlingPolicy: "ROLLBACK_ON_FAILURE", Definitions: []Definition{
		{ModelHandle: "fraud", S3URL: "s3://bucket/key", Checksum: Checksum{"SHA1", "00"}, State: Deploy},
	}}}}, b.fails
}

func (b *backend) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.beats)
}

type keys struct{}

func (keys) Secret(key string) (string, bool) { return testSecret, key == testKey || key == "PKOTHER" }
func (keys) May(key, device string) bool      { return key == testKey || device == "other" }

func newServer(t testing.TB, now func() time.Time) (*backend, *httptest.Server) {
	t.Helper()
	b := &backend{}
	s := httptest.NewServer(NewHandler(b, keys{}, slog.New(slog.DiscardHandler), now))
	t.Cleanup(s.Close)
	return b, s
}

func newClient(t testing.TB, endpoint, key, secret string, now func() time.Time) *Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := NewClient(ClientOptions{
		Endpoint: endpoint, Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider(key, secret, ""), HTTP: &http.Client{Transport: transport}, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func beat() *Heartbeat {
	at := Time{time.UnixMilli(1795391998123).UTC()}
	return &Heartbeat{
		Device: Device{"dev-1", "fleet"}, AgentVersion: "1.20220822.836f3023", AgentMetrics: []Metric{{"SageMaker", "AgentStartup", 1, &at}},
		Models:           []Model{{ModelName: "model", ModelVersion: "1.0", LatestSampleTime: &at, LatestInference: &at}},
		DeploymentResult: &DeploymentResult{DeploymentName: "d", DeploymentStatus: Fail, DeploymentModels: []DeploymentModel{{ModelHandle: "model", Status: Fail, State: Deploy, StatusReason: "why"}}},
	}
}

func TestCalls(t *testing.T) {
	b, s := newServer(t, nil)
	c := newClient(t, s.URL, testKey, testSecret, nil)
	r, err := c.Registration(t.Context(), Device{"dev-1", "fleet"})
	if err != nil || r.DeviceRegistration != `{"device":"dev-1"}` || r.CacheTTL != "60" {
		t.Errorf("GetDeviceRegistration answers %+v, %v", r, err)
	}
	d, err := c.Deployments(t.Context(), Device{"dev-1", "fleet"})
	if err != nil || len(d.Deployments) != 1 || d.Deployments[0].Definitions[0].S3URL != "s3://bucket/key" {
		t.Errorf("GetDeployments answers %+v, %v", d, err)
	}
	if err := c.Heartbeat(t.Context(), beat()); err != nil {
		t.Fatal(err)
	}
	sent, _ := json.Marshal(beat())
	got, _ := json.Marshal(b.beats[0])
	if !bytes.Equal(sent, got) {
		t.Errorf("sent %s, came %s", sent, got)
	}
	if !strings.Contains(string(sent), `"LatestInference":1795391998.123`) {
		t.Errorf("times are not seconds with a fraction: %s", sent)
	}
}

// The body that botocore sends, as it was recorded.
func TestBodyOfBotocore(t *testing.T) {
	var h Heartbeat
	body := `{"AgentVersion": "1.20220822.836f3023", "DeviceName": "dev-1", "DeviceFleetName": "fleet", "AgentMetrics": [{"Dimension": "SageMaker", "MetricName": "AgentStartup", "Value": 1.0, "Timestamp": 1795391998.123}],
   "Models": [{"ModelName": "model", "ModelVersion": "1.0", "LatestSampleTime": 1795391998.123, "LatestInference": 1795391998.123, "ModelMetrics": []}], "SomethingNew": {"a": 1}}`
	if err := decode([]byte(body), &h); err != nil {
		t.Fatal(err)
	}
	if err := h.check(); err != nil {
		t.Error(err)
	}
	if h.Models[0].LatestInference.UnixMilli() != 1795391998123 {
		t.Errorf("the time is %v", h.Models[0].LatestInference)
	}
}

func TestWhoMayCall(t *testing.T) {
	b, s := newServer(t, nil)
	var said *Error
	for _, test := range []struct {
		key, secret, device, kind string
	}{
		{testKey, "another-secret-of-a-test", "dev-1", "UnrecognizedClientException"},
		{"PKUNKNOWN", testSecret, "dev-1", "UnrecognizedClientException"},
		{"PKOTHER", testSecret, "dev-1", "AccessDeniedException"},
	} {
		h := beat()
		h.Name = test.device
		err := newClient(t, s.URL, test.key, test.secret, nil).Heartbeat(t.Context(), h)
		if !errors.As(err, &said) || said.Status != http.StatusForbidden || said.Type != test.kind {
			t.Errorf("%+v: %v", test, err)
		}
	}
	h := beat()
	h.Name = "other"
	if err := newClient(t, s.URL, "PKOTHER", testSecret, nil).Heartbeat(t.Context(), h); err != nil {
		t.Errorf("a device with its own key: %v", err)
	}
	if b.count() != 1 {
		t.Errorf("%d heartbeats came", b.count())
	}
}

// Whatever is changed after a request was signed, it is refused.
func TestChangedRequests(t *testing.T) {
	b, s := newServer(t, nil)
	for name, change := range map[string]func(r *http.Request){
		"nothing": func(*http.Request) {},
		"the body": func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", int(r.ContentLength))))
		},
		"the path":       func(r *http.Request) { r.URL.Path = opDeployments },
		"a query":        func(r *http.Request) { r.URL.RawQuery = "a=b" },
		"the type":       func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") },
		"the date":       func(r *http.Request) { r.Header.Set(dateHeader, time.Now().UTC().Add(time.Minute).Format(dateForm)) },
		"no date":        func(r *http.Request) { r.Header.Del(dateHeader) },
		"no signature":   func(r *http.Request) { r.Header.Del("Authorization") },
		"an empty claim": func(r *http.Request) { r.Header.Set("Authorization", algorithm+" ") },
		"no signed headers": func(r *http.Request) {
			r.Header.Set("Authorization", algorithm+" Credential="+testKey+"/20260101/us-west-2/sagemaker/aws4_request, SignedHeaders=, Signature="+strings.Repeat("0", 64))
		},
		"another service": func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "/sagemaker/", "/s3/", 1))
		},
	} {
		body, _ := json.Marshal(beat())
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+opHeartbeat, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		sum := sha256.Sum256(body)
		if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, r, hex.EncodeToString(sum[:]), service, "us-west-2", time.Now()); err != nil {
			t.Fatal(err)
		}
		change(r)
		before := b.count()
		answer, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if good := name == "nothing"; good != (answer.StatusCode == http.StatusOK) || good != (b.count() == before+1) {
			t.Errorf("changed %s: %d", name, answer.StatusCode)
		}
	}
}

// A client whose clock is wrong learns it from the server, as AWS's SDKs do.
func TestClocks(t *testing.T) {
	_, s := newServer(t, nil)
	wrong := func() time.Time { return time.Now().Add(-3 * time.Hour) }
	c := newClient(t, s.URL, testKey, testSecret, wrong)
	if err := c.Heartbeat(t.Context(), beat()); err != nil {
		t.Fatal(err)
	}
	if off := c.ClockError().Round(time.Minute); off != 3*time.Hour {
		t.Errorf("the client takes its clock to be off by %v", off)
	}
}

func TestHostileRequests(t *testing.T) {
	b, s := newServer(t, nil)
	long := strings.Repeat("a", 2000)
	many := strings.Repeat(`{"ModelName":"abcd"},`, 300)
	for _, test := range []struct {
		name, path, body string
		status           int
	}{
		{"deep JSON", opHeartbeat, strings.Repeat(`{"a":`, 100_000), 400},
		{"deep lists", opHeartbeat, strings.Repeat("[", 500_000), 400},
		{"too large", opHeartbeat, strings.Repeat(" ", maxBody+1), 413},
		{"no JSON", opHeartbeat, "hello", 400},
		{"no object", opHeartbeat, "[]", 400},
		{"null", opHeartbeat, "null", 400},
		{"two documents", opHeartbeat, "{}{}", 400},
		{"nothing", opHeartbeat, "", 400},
		{"no device", opHeartbeat, `{"AgentVersion":"1"}`, 400},
		{"a key twice", opHeartbeat, `{"DeviceName":"a","DeviceName":"b","DeviceFleetName":"c","AgentVersion":"1"}`, 400},
		{"a path as a device", opRegistration, `{"DeviceName":"../a","DeviceFleetName":"c"}`, 400},
		{"a long device", opDeployments, `{"DeviceName":"` + long + `","DeviceFleetName":"c"}`, 400},
		{"a long version", opHeartbeat, `{"DeviceName":"a","DeviceFleetName":"c","AgentVersion":"` + long + `"}`, 400},
		{"many models", opHeartbeat, `{"DeviceName":"a","DeviceFleetName":"c","AgentVersion":"1","Models":[` + many + `{}]}`, 400},
		{"a long reason", opHeartbeat, `{"DeviceName":"a","DeviceFleetName":"c","AgentVersion":"1","DeploymentResult":{"DeploymentModels":[{"StatusReason":"` + long + `"}]}}`, 400},
		{"a state that is none", opHeartbeat, `{"DeviceName":"a","DeviceFleetName":"c","AgentVersion":"1","DeploymentResult":{"DeploymentModels":[{"Status":"MAYBE"}]}}`, 400},
		{"a time without end", opHeartbeat, `{"DeviceName":"a","DeviceFleetName":"c","AgentVersion":"1","AgentMetrics":[{"Timestamp":1e300}]}`, 400},
		{"a time as text", opHeartbeat, `{"DeviceName":"a","DeviceFleetName":"c","AgentVersion":"1","AgentMetrics":[{"Timestamp":"now"}]}`, 400},
		{"a call that is none", "/DeleteEverything", `{}`, 404},
		{"a path out", "/../GetDeployments", `{}`, 404},
	} {
		answer := signedPost(t, s, test.path, []byte(test.body))
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		var said struct{ Message string }
		if err := json.Unmarshal(text, &said); answer.StatusCode != test.status || err != nil || said.Message == "" || strings.Contains(said.Message, "\n") || len(said.Message) > 500 {
			t.Errorf("%s: %d %s", test.name, answer.StatusCode, text)
		}
	}
	if b.count() != 0 {
		t.Errorf("%d heartbeats came", b.count())
	}
	// A failure of the server's own tells its log why, and nobody else.
	b.fails = errors.New("the disk of /var/lib is full")
	err := newClient(t, s.URL, testKey, testSecret, nil).Heartbeat(t.Context(), beat())
	if said := (*Error)(nil); !errors.As(err, &said) || said.Type != "InternalServiceException" || strings.Contains(said.Message, "/var/lib") {
		t.Errorf("a server that fails says %v", err)
	}
}

func signedPost(t testing.TB, s *httptest.Server, path string, body []byte) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Path = path
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, r, hex.EncodeToString(sum[:]), service, "us-west-2", time.Now()); err != nil {
		t.Fatal(err)
	}
	answer, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// A server that is not what it should be does no more than fail the call.
func TestHostileAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"deep": strings.Repeat(`{"Deployments":[`, 100_000), "endless": strings.Repeat(" ", 4*maxBody), "none": "", "text": "hello",
		"many": `{"Deployments":[` + strings.Repeat("{},", 1000) + `{}]}`,
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
		if d, err := newClient(t, s.URL, testKey, testSecret, nil).Deployments(t.Context(), Device{"a", "b"}); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
		s.Close()
	}
}

// FuzzHeartbeat: what is taken can be written and read again, and is within its bounds.
func FuzzHeartbeat(f *testing.F) {
	good, _ := json.Marshal(beat())
	f.Add(good)
	f.Add([]byte(`{"DeviceName":"a","DeviceFleetName":"c","AgentVersion":"1"}`))
	f.Add([]byte(`{"DeviceName":"a","DeviceFleetName":"c","AgentVersion":"1","AgentMetrics":[{"Timestamp":null,"Value":-1e308}],"Models":null,"DeploymentResult":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var h Heartbeat
		if decode(data, &h) != nil || h.check() != nil {
			return
		}
		once, err := json.Marshal(&h)
		if err != nil {
			t.Fatalf("what was taken cannot be written: %v", err)
		}
		var again Heartbeat
		if err := decode(once, &again); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if err := again.check(); err != nil {
			t.Fatalf("what was written is not taken: %v", err)
		}
		if twice, _ := json.Marshal(&again); !bytes.Equal(once, twice) {
			t.Fatalf("%s became %s", once, twice)
		}
	})
}

// FuzzAuthorization: no header that was not made with the secret is taken.
func FuzzAuthorization(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=PKTEST/20260101/us-west-2/sagemaker/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature="+strings.Repeat("0", 64), "20260101T000000Z", []byte("{}"))
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/e,SignedHeaders=;;;,Signature=", "", []byte(nil))
	f.Fuzz(func(t *testing.T, header, date string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "http://host/SendHeartbeat", nil)
		r.Header["Authorization"], r.Header["X-Amz-Date"] = []string{header}, []string{date}
		if key, failed := verify(r, body, keys{}.Secret, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)); failed == nil {
			t.Fatalf("%q was taken for the key %q", header, key)
		}
	})
}
