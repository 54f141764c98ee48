package s3

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/picket-ml/picket/internal/cloud"
)

// User is an account of the store that owns nothing, and is let in nowhere until a
// bucket's policy lets it.
type User struct{ AccessKey, SecretKey string }

// Options reach the store s as the user.
func (u User) Options(s *Server) cloud.Options {
	o := s.Options()
	o.Credentials = credentials.NewStaticCredentialsProvider(u.AccessKey, u.SecretKey, "")
	return o
}

// NewUser makes an account.
func (s *Server) NewUser(t testing.TB) User {
	t.Helper()
	u := User{AccessKey: "USER" + secret(8), SecretKey: secret(20)}
	body, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"Account"`
		Access  string
		Secret  string
		Role    string
	}{Access: u.AccessKey, Secret: u.SecretKey, Role: "user"})
	if err != nil {
		t.Fatal(err)
	}
	s.admin(t, "/create-user", body)
	return u
}

// DeleteUser ends an account: its key is unknown from then on.
func (s *Server) DeleteUser(t testing.TB, u User) {
	t.Helper()
	s.admin(t, "/delete-user?access="+u.AccessKey, nil)
}

// admin asks versitygw's own interface.
func (s *Server) admin(t testing.TB, path string, body []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, s.Endpoint+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(body)
	payload := hex.EncodeToString(digest[:])
	request.Header.Set("X-Amz-Content-Sha256", payload)
	root := aws.Credentials{AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey}
	if err := v4.NewSigner().SignHTTP(t.Context(), root, request, payload, "s3", Region, time.Now()); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("asking the store: %v", err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode/100 != 2 {
		t.Fatalf("asking the store for %s: %s %s (%v)", path, response.Status, said, err)
	}
}
