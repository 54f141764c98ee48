package hw

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// metadataService speaks version 2 of the instance metadata protocol: a token
// by PUT, then documents to those who show it.
type metadataService struct {
	tokenStatus int    // 0: hand it out
	document    string // of the instance
	outpost     string // "": 404
	hangOn      string // path that never answers
	release     chan struct{}
}

const goodDocument = `{"instanceType":"m5.4xlarge","instanceId":"i-0123456789abcdef0","region":"us-west-2","availabilityZone":"us-west-2a"}`

func (s *metadataService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const token = "AQAEAsecret=="
	if s.hangOn != "" && strings.HasSuffix(r.URL.Path, s.hangOn) {
		select {
		case <-r.Context().Done():
		case <-s.release:
		}
		return
	}
	if r.URL.Path == "/latest/api/token" {
		if r.Method != http.MethodPut || r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if s.tokenStatus != 0 {
			w.WriteHeader(s.tokenStatus)
			return
		}
		w.Header().Set("X-aws-ec2-metadata-token-ttl-seconds", "300")
		fmt.Fprint(w, token)
		return
	}
	if r.Header.Get("X-aws-ec2-metadata-token") != token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch r.URL.Path {
	case "/latest/dynamic/instance-identity/document":
		fmt.Fprint(w, s.document)
	case "/latest/meta-data/outpost-arn":
		if s.outpost == "" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprint(w, s.outpost)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func TestDetectInstance(t *testing.T) {
	const arn = "arn:aws:outposts:us-west-2:123456789012:outpost/op-0123456789abcdef0"
	on := Instance{Type: "m5.4xlarge", Family: "m5", ID: "i-0123456789abcdef0", Region: "us-west-2",
		AvailabilityZone: "us-west-2a", Outposts: "first generation rack", Source: "imds"}
	onOutpost := on
	onOutpost.OutpostARN = arn
	hung := on
	hung.Reason = "whether this is an Outpost is unknown: the instance metadata service did not answer within 200ms"
	forged := on
	forged.Reason = "whether this is an Outpost is unknown: the instance metadata service answered with something else than an Outpost ARN"

	const off = "this host is not known to be an EC2 instance: "
	tests := []struct {
		name    string
		service metadataService
		want    Instance
	}{
		{"on an Outpost", metadataService{document: goodDocument, outpost: arn}, onOutpost},
		{"in a Region", metadataService{document: goodDocument}, on},
		{"an ARN with an escape sequence", metadataService{document: goodDocument, outpost: arn + "\x1b[2J"}, forged},
		{"hangs at the token", metadataService{hangOn: "/token"},
			Instance{Reason: off + "the instance metadata service did not answer within 200ms"}},
		{"hangs at the document", metadataService{hangOn: "/document"},
			Instance{Reason: off + "the instance metadata service did not answer within 200ms"}},
		{"hangs at the Outpost", metadataService{document: goodDocument, hangOn: "/outpost-arn"}, hung},
		{"token forbidden", metadataService{tokenStatus: 403, document: goodDocument},
			Instance{Reason: off + "the instance metadata service refused to answer (status 403), as it does where it is switched off"}},
		{"token not found: no version 1 instead", metadataService{tokenStatus: 404, document: goodDocument},
			Instance{Reason: off + "the instance metadata service answered with status 404"}},
		{"not JSON", metadataService{document: "<html>captive portal</html>"},
			Instance{Reason: off + "the instance metadata service gave no usable answer"}},
		{"endless", metadataService{document: `{"instanceType":"` + strings.Repeat("m", 1<<20)},
			Instance{Reason: off + "the instance metadata service gave no usable answer"}},
		{"without a type", metadataService{document: `{"instanceType":"\u001b[2J"}`},
			Instance{Reason: "the instance metadata service answered without an instance type"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.service.release = make(chan struct{})
			server := httptest.NewServer(&tt.service)
			defer server.Close()
			defer close(tt.service.release)
			if got := DetectInstance(t.Context(), Options{IMDSEndpoint: server.URL}); got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestDetectInstanceKeepsOffTheNetwork(t *testing.T) {
	asked := make(chan string, 8)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Path }))
	defer server.Close()
	set := DetectInstance(t.Context(), Options{IMDSEndpoint: server.URL, InstanceType: "c6gd.medium"})
	if set.Type != "c6gd.medium" || set.Outposts != "server" || set.Source != "configuration" {
		t.Errorf("configured instance = %+v", set)
	}
	off := DetectInstance(t.Context(), Options{IMDSEndpoint: server.URL, NoIMDS: true})
	if off.Type != "" || !strings.Contains(off.Reason, "as configured") {
		t.Errorf("switched off = %+v", off)
	}
	if len(asked) != 0 {
		t.Errorf("the service was asked for %s", <-asked)
	}
}

func TestDetectInstanceRefusedConnection(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	got := DetectInstance(t.Context(), Options{IMDSEndpoint: server.URL})
	if got.Type != "" || !strings.Contains(got.Reason, "connection refused") {
		t.Errorf("got %+v", got)
	}
}

func TestFamilies(t *testing.T) {
	for instanceType, want := range map[string]string{
		"m5.large": "first generation rack", "c5.9xlarge": "first generation rack", "r5.24xlarge": "first generation rack",
		"g4dn.12xlarge": "first generation rack", "i3en.metal": "first generation rack",
		"m7i.metal-24xl": "second generation rack", "c7i.large": "second generation rack", "r7i.large": "second generation rack",
		"c6id.16xlarge": "server", "c6gd.16xlarge": "server",
		"x9z.large": "family x9z is not known to run on Outposts",
	} {
		if _, got := familyOf(instanceType); got != want {
			t.Errorf("%s: %q, want %q", instanceType, got, want)
		}
	}
}
