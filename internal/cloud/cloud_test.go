package cloud_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/picket-ml/picket/internal/cloud"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/internal/testkit/s3"
)

func TestRate(t *testing.T) {
	for text, want := range map[string]cloud.Rate{
		"": 0, "0": 0, "100Mbit/s": 12_500_000, "20MiB/s": 20 << 20, "1.5 MB/s": 1_500_000, "1Gbit/s": 125_000_000, "8kbit/s": 1000,
	} {
		var r cloud.Rate
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want {
			t.Errorf("%q is %d, %v, want %d", text, r, err, want)
		}
		var back cloud.Rate
		if err := back.UnmarshalText([]byte(r.String())); err != nil || back != r {
			t.Errorf("%q, written as %q, is %d, %v", text, r, back, err)
		}
	}
	for _, text := range []string{"fast", "10", "10MB", "-1MB/s", "NaNMB/s", "InfGB/s", "1e300GB/s", "MB/s"} {
		var r cloud.Rate
		if err := r.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken as %v", text, r)
		}
	}
}

func TestOptionsOfFileAndFlags(t *testing.T) {
	var file cloud.Options
	if err := yaml.Unmarshal([]byte(`{region: eu-central-1, endpoint: "https://s3.bank.example", path_style: true, bandwidth: 100Mbit/s, role_alias: {url: u, thing: t}}`), &file); err != nil {
		t.Fatal(err)
	}
	var flags cloud.Options
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.AddFlags(set)
	if err := set.Parse([]string{"--region", "us-west-2", "--ca-bundle", "/ca.pem", "--bandwidth", "1MiB/s"}); err != nil {
		t.Fatal(err)
	}
	want := cloud.Options{
		Region: "us-west-2", Endpoint: "https://s3.bank.example", PathStyle: true, CABundle: "/ca.pem", Bandwidth: 1 << 20,
		RoleAlias: cloud.RoleAlias{URL: "u", Thing: "t"},
	}
	if got := flags.Over(file); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestOptionsThatCannotBeRight(t *testing.T) {
	alias := cloud.RoleAlias{URL: "https://x.credentials.iot.us-west-2.amazonaws.com/role-aliases/a/credentials", Certificate: "/c", Key: "/k"}
	for want, o := range map[string]cloud.Options{
		"region":           {Region: "US West"},
		"endpoint":         {Endpoint: "s3.bank.example"},
		"endpoint has":     {Endpoint: "https://user:secret@s3.bank.example"},
		"bandwidth":        {Bandwidth: 10},
		"profile":          {Profile: "a]b"},
		"role_alias.url":   {RoleAlias: cloud.RoleAlias{URL: "http://x/role-aliases/a/credentials", Certificate: "/c", Key: "/k"}},
		"role_alias.key":   {RoleAlias: cloud.RoleAlias{URL: alias.URL, Certificate: "/c"}},
		"role_alias.thing": {RoleAlias: cloud.RoleAlias{URL: alias.URL, Certificate: "/c", Key: "/k", Thing: "a\nb"}},
	} {
		_, err := o.Config(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", want, err)
		}
	}
	var wrong []string
	cloud.Options{RoleAlias: alias}.Check(func(key, sentence string) { wrong = append(wrong, key+" "+sentence) })
	if wrong != nil {
		t.Errorf("a sound one: %q", wrong)
	}
}

func TestParseS3(t *testing.T) {
	for url, want := range map[string][2]string{"s3://b-1": {"b-1", ""}, "s3://b.x/": {"b.x", ""}, "s3://bucket/a/b.tar.gz": {"bucket", "a/b.tar.gz"}, "s3://bucket/a/": {"bucket", "a/"}} {
		if bucket, key, err := cloud.ParseS3(url); err != nil || [2]string{bucket, key} != want {
			t.Errorf("%s: %q, %q, %v", url, bucket, key, err)
		}
	}
	for _, url := range []string{"", "bucket/a", "https://bucket/a", "s3://", "s3:///a", "s3://b u/a", "s3://bucket//a", "s3://bucket/a\nb", "s3://bucket/" + strings.Repeat("a", 1025), "s3://bucket/\xff"} {
		if bucket, key, err := cloud.ParseS3(url); err == nil {
			t.Errorf("%q is taken for %q, %q", url, bucket, key)
		}
	}
}

func FuzzParseS3(f *testing.F) {
	f.Add("s3://bucket/prefix/name-1.tar.gz")
	f.Add("s3://b//x")
	f.Fuzz(func(t *testing.T, url string) {
		bucket, key, err := cloud.ParseS3(url)
		if err != nil {
			if bucket != "" || key != "" || strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("%q: %q, %q beside %q", url, bucket, key, err)
			}
			return
		}
		if again, rest, err := cloud.ParseS3("s3://" + bucket + "/" + key); again != bucket || rest != key || err != nil {
			t.Fatalf("%q is %q and %q, which are %q and %q, %v", url, bucket, key, again, rest, err)
		}
	})
}

// One limit holds for all that is transferred with a configuration: two downloads together take as long as their bytes ask for.
func TestBandwidthIsShared(t *testing.T) {
	server := s3.Start(t)
	bucket := server.NewBucket(t)
	body := make([]byte, 256<<10)
	server.Put(t, bucket, "one", body)
	o := server.Options()
	o.Bandwidth = 1 << 20
	limiter := o.Bandwidth.Limit()
	o.Limiter = limiter
	before := limiter.Tokens()
	cfg, err := o.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for range 2 {
		out, err := o.Client(cfg).GetObject(t.Context(), &awss3.GetObjectInput{Bucket: &bucket, Key: aws.String("one")})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, out.Body); err != nil || n != int64(len(body)) {
			t.Fatalf("%d bytes, %v", n, err)
		}
		_ = out.Body.Close()
	}
	// What a limiter has given is what it had, and what time brought, less what is left: no more bytes than that came.
	most := before + time.Since(start).Seconds()*float64(limiter.Limit()) - limiter.Tokens()
	if float64(2*len(body)) > most+1 {
		t.Errorf("%d bytes came where the limit gave %.0f", 2*len(body), most)
	}
}

// A store with a certificate of the bank's own authority is reached with its bundle, and not without.
func TestCABundle(t *testing.T) {
	bank := testkit.NewCertificate(t, "bank", nil)
	store := testkit.NewCertificate(t, "store", bank)
	server := s3.StartWith(t, s3.Settings{Certificate: store.File, Key: store.Key})
	o := server.Options()
	client, err := o.S3(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.ListBuckets(t.Context(), &awss3.ListBucketsInput{})
	if err = cloud.Explain(err); err == nil || cloud.Temporary(err) || !strings.Contains(err.Error(), "signed by nobody known here") {
		t.Errorf("without the bundle: %v", err)
	}
	o.CABundle = bank.File
	if client, err = o.S3(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err = client.ListBuckets(t.Context(), &awss3.ListBucketsInput{}); err != nil {
		t.Errorf("with the bundle: %v", err)
	}
	for name, content := range map[string]string{"empty.pem": "", "key.pem": "no certificate"} {
		o.CABundle = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(o.CABundle, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := o.S3(t.Context()); err == nil || !strings.Contains(err.Error(), "no certificate") {
			t.Errorf("%s: %v", name, err)
		}
	}
	o.CABundle = "/nowhere/ca.pem"
	if _, err := o.S3(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no bundle there: %v", err)
	}
}

// iotEndpoint answers as AWS IoT's credential endpoint does, to who has a certificate of the devices' authority.
func iotEndpoint(t *testing.T, devices *testkit.Certificate, answer http.HandlerFunc) (url, ca string) {
	t.Helper()
	amazon := testkit.NewCertificate(t, "amazon", nil)
	pool := x509.NewCertPool()
	pool.AddCert(devices.Pair.Leaf)
	server := httptest.NewUnstartedServer(answer)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{testkit.NewCertificate(t, "endpoint", amazon).Pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL + "/role-aliases/bank/credentials", amazon.File
}

// A device trades its certificate for credentials, and again when the store no longer takes them.
func TestRoleAlias(t *testing.T) {
	server := s3.Start(t)
	devices := testkit.NewCertificate(t, "devices", nil)
	old := server.NewUser(t)
	var asked atomic.Int64
	url, ca := iotEndpoint(t, devices, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/role-aliases/bank/credentials" || r.Method != http.MethodGet || r.Header.Get("x-amzn-iot-thingname") != "host-1" {
			http.Error(w, `{"message":"Invalid thing name"}`, http.StatusForbidden)
			return
		}
		access, secret := old.AccessKey, old.SecretKey
		if asked.Add(1) > 1 {
			access, secret = server.AccessKey, server.SecretKey
		}
		fmt.Fprintf(w, `{"credentials":{"accessKeyId":%q,"secretAccessKey":%q,"sessionToken":"","expiration":%q}}`, access, secret, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	})
	host := testkit.NewCertificate(t, "host-1", devices)
	o := server.Options()
	o.Credentials = nil
	o.RoleAlias = cloud.RoleAlias{URL: url, Thing: "host-1", Certificate: host.File, Key: host.Key, CA: ca}
	client, err := o.S3(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.ListBuckets(t.Context(), &awss3.ListBucketsInput{}); err != nil {
		t.Fatal(err)
	}
	server.DeleteUser(t, old)
	if _, err := client.ListBuckets(t.Context(), &awss3.ListBucketsInput{}); err != nil {
		t.Errorf("after the first credentials ended: %v", err)
	}
	if asked.Load() != 2 {
		t.Errorf("the endpoint was asked %d times", asked.Load())
	}
}

func TestRoleAliasRefusals(t *testing.T) {
	server := s3.Start(t)
	devices, strangers := testkit.NewCertificate(t, "devices", nil), testkit.NewCertificate(t, "strangers", nil)
	var answer atomic.Value
	answer.Store(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}))
	url, ca := iotEndpoint(t, devices, func(w http.ResponseWriter, r *http.Request) { answer.Load().(http.HandlerFunc)(w, r) })
	host := testkit.NewCertificate(t, "host-1", devices)
	strange := testkit.NewCertificate(t, "host-2", strangers)
	says := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
	}
	good := cloud.RoleAlias{URL: url, Thing: "host-1", Certificate: host.File, Key: host.Key, CA: ca}
	for name, test := range map[string]struct {
		change    func(*cloud.RoleAlias)
		answer    http.HandlerFunc
		want      string
		temporary bool
	}{
		"refused":       {answer: says(403, `{"message":"Access denied"}`), want: "gives this device no credentials (403: Access denied): its certificate must be active"},
		"broken":        {answer: says(500, "oops"), want: "gives this device no credentials (500: Internal Server Error)", temporary: true},
		"not JSON":      {answer: says(200, "<html>"), want: "answers, but not with credentials"},
		"no expiration": {answer: says(200, `{"credentials":{"accessKeyId":"a","secretAccessKey":"b"}}`), want: "answers, but not with credentials"},
		"endless":       {answer: says(200, strings.Repeat(" ", 1<<20)), want: "answers, but not with credentials"},
		"redirects": {answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://127.0.0.1:1/", http.StatusFound)
		}, want: "it redirects"},
		"another's":       {change: func(a *cloud.RoleAlias) { a.Certificate, a.Key = strange.File, strange.Key }, want: "the other side ends the TLS connection"},
		"key of another":  {change: func(a *cloud.RoleAlias) { a.Key = strange.Key }, want: "reading the device's certificate: "},
		"no certificate":  {change: func(a *cloud.RoleAlias) { a.Certificate = "/nowhere.pem" }, want: "reading the device's certificate: "},
		"unknown CA":      {change: func(a *cloud.RoleAlias) { a.CA = strangers.File }, want: "signed by nobody known here"},
		"name not there":  {change: func(a *cloud.RoleAlias) { a.URL = "https://iot.invalid/role-aliases/a/credentials" }, want: "the name iot.invalid cannot be resolved", temporary: true},
		"nobody answers":  {change: func(a *cloud.RoleAlias) { a.URL = "https://127.0.0.1:1/role-aliases/a/credentials" }, want: "is refused", temporary: true},
		"empty CA bundle": {change: func(a *cloud.RoleAlias) { a.CA = host.Key }, want: "there is no certificate in "},
	} {
		t.Run(name, func(t *testing.T) {
			if test.answer != nil {
				answer.Store(test.answer)
			}
			o := server.Options()
			o.Credentials, o.RoleAlias = nil, good
			if test.change != nil {
				test.change(&o.RoleAlias)
			}
			client, err := o.S3(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.ListBuckets(t.Context(), &awss3.ListBucketsInput{}, func(s *awss3.Options) { s.Retryer = aws.NopRetryer{} })
			err = cloud.Explain(err)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v\nwant %q", err, test.want)
			}
			if cloud.Temporary(err) != test.temporary {
				t.Errorf("temporary: %v; %v", cloud.Temporary(err), err)
			}
		})
	}
}

// Where nothing says who we are, that is said.
func TestNoCredentials(t *testing.T) {
	server := s3.Start(t)
	for _, pair := range server.Env() {
		name, value, _ := strings.Cut(pair, "=")
		if strings.Contains(name, "KEY") {
			value = ""
		}
		t.Setenv(name, value)
	}
	client, err := cloud.Options{Region: s3.Region, Endpoint: server.Endpoint}.S3(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.ListBuckets(t.Context(), &awss3.ListBucketsInput{})
	if err = cloud.Explain(err); err == nil || !strings.Contains(err.Error(), "no AWS credentials were found") {
		t.Errorf("%v", err)
	}
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	if _, err := (cloud.Options{}).Config(t.Context()); err == nil || !strings.Contains(err.Error(), "no AWS region is known") {
		t.Errorf("without a region: %v", err)
	}
}

func TestRetry(t *testing.T) {
	down := &net.OpError{Op: "dial", Err: errors.New("down")}
	lasting := errors.New("lasting")
	policy := cloud.Policy{First: time.Millisecond, Longest: 2 * time.Millisecond}

	tries := 0
	err := cloud.Retry(t.Context(), policy, func(context.Context) error {
		if tries++; tries < 50 {
			return down
		}
		return nil
	})
	if err != nil || tries != 50 {
		t.Errorf("an outage of 49 tries: %d, %v", tries, err)
	}

	tries = 0
	err = cloud.Retry(t.Context(), policy, func(context.Context) error { tries++; return lasting })
	if !errors.Is(err, lasting) || tries != 1 {
		t.Errorf("what does not pass was tried %d times: %v", tries, err)
	}

	policy.Patience = 20 * time.Millisecond
	err = cloud.Retry(t.Context(), policy, func(context.Context) error { return down })
	if !errors.Is(err, down) || !strings.Contains(err.Error(), "given up after 20ms") {
		t.Errorf("without success: %v", err)
	}

	// Progress begins patience anew.
	start, tries := time.Now(), 0
	err = cloud.Retry(t.Context(), policy, func(context.Context) error {
		if tries++; time.Since(start) > 3*policy.Patience {
			return nil
		}
		return cloud.Progress(down)
	})
	if err != nil {
		t.Errorf("with progress: %v after %d tries", err, tries)
	}

	ctx, cancel := context.WithCancel(t.Context())
	policy = cloud.Policy{First: time.Hour, Longest: time.Hour, Report: func(error, time.Duration) { cancel() }}
	if err := cloud.Retry(ctx, policy, func(context.Context) error { return down }); !errors.Is(err, down) {
		t.Errorf("cancelled: %v", err)
	}
	if cloud.Progress(nil) != nil {
		t.Error("progress without an error is an error")
	}
}

// A store, or whoever answers in its place, that never ends its answer is refused before it has taken much memory: errors and lists. The bytes of an object may
// be any number.
func TestEndlessAnswers(t *testing.T) {
	for name, what := range map[string]struct {
		status int
		begin  string
		again  string
		ask    func(*awss3.Client) error
	}{
		"an error": {500, `<?xml version="1.0"?><Error><Code>Busy</Code><Message>`, strings.Repeat("busy ", 1000), func(c *awss3.Client) error {
			_, err := c.PutObject(t.Context(), &awss3.PutObjectInput{Bucket: aws.String("b"), Key: aws.String("k"), Body: strings.NewReader("x")})
			return err
		}},
		"no object": {404, "", strings.Repeat("no ", 1000), func(c *awss3.Client) error {
			_, err := c.GetObject(t.Context(), &awss3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
			return err
		}},
		"a list": {200, `<?xml version="1.0"?><ListBucketResult>`, strings.Repeat("<Contents><Key>k</Key></Contents>", 100), func(c *awss3.Client) error {
			_, err := c.ListObjectsV2(t.Context(), &awss3.ListObjectsV2Input{Bucket: aws.String("b")})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(what.status)
				fmt.Fprint(w, what.begin)
				for {
					n, err := io.WriteString(w, what.again)
					if err != nil {
						return
					}
					if sent.Add(int64(n)) > 1<<30 {
						t.Error("a gigabyte was taken")
						return
					}
				}
			}))
			defer server.Close()
			o := cloud.Options{Endpoint: server.URL, Region: "us-east-1", Credentials: aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}, nil
			}))}
			client, err := o.S3(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			err = what.ask(client)
			if err == nil || !strings.Contains(cloud.Explain(err).Error(), "16 MiB") {
				t.Errorf("%v, want that the answer is too long", err)
			}
		})
	}
}

// What the other side says is shown to people, on one line and with nothing that moves a cursor.
func TestStrangersTexts(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(400)
		fmt.Fprint(w, "<Error><Code>Odd</Code><Message>one\ntwo&#x9b;2J\u202ethree &#x85;"+strings.Repeat("ä", 1000)+"</Message></Error>")
	}))
	defer server.Close()
	o := cloud.Options{Endpoint: server.URL, Region: "us-east-1", Credentials: aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}, nil
	}))}
	client, err := o.S3(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.PutObject(t.Context(), &awss3.PutObjectInput{Bucket: aws.String("b"), Key: aws.String("k"), Body: strings.NewReader("x")})
	text := cloud.Explain(err).Error()
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || !strings.Contains(text, "one two") || len(text) > 400 || !utf8.ValidString(text) {
		t.Errorf("%q", text)
	}
}
