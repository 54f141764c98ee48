package s3

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/picket-ml/picket/internal/cloud"
)

// Region is the one that the store signs for.
const Region = "us-west-2"

// patience is how long the store may take to answer, or to end.
const patience = 30 * time.Second

// Server is a running store. It ends with its test.
type Server struct {
	// Endpoint is its URL, and Address the host and port in it.
	Endpoint, Address string
	// AccessKey and SecretKey are of its root, made for this server.
	AccessKey, SecretKey string
	// Dir holds a folder for each bucket, which holds the objects as files.
	Dir string

	settings Settings
	binary   string
	iam      string

	mu      sync.Mutex
	running *process // nil while it is stopped
}

// Settings are what a test may want otherwise.
type Settings struct {
	// Certificate and Key are PEM files; empty for plain HTTP.
	Certificate, Key string
	// Dir holds the buckets; empty for a temporary one.
	Dir string
	// Versions keeps old versions of objects.
	Versions bool
}

// process is one run of versitygw.
type process struct {
	command *exec.Cmd
	stdin   io.Closer
	output  *output
	ended   chan struct{} // closed when it has been waited for
}

// Start starts a store that speaks plain HTTP on 127.0.0.1, empty.
func Start(t testing.TB) *Server {
	t.Helper()
	return StartWith(t, Settings{})
}

// StartWith is Start with settings.
func StartWith(t testing.TB, settings Settings) *Server {
	t.Helper()
	s, err := Launch(Binary(t), t.TempDir(), settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("ending the store: %v", err)
		}
	})
	return s
}

// Launch is StartWith for programs that are no tests: dir is for what the store keeps,
// and the caller closes it.
func Launch(binary, dir string, settings Settings) (*Server, error) {
	s := &Server{
		AccessKey: "PICKET" + secret(7), SecretKey: secret(20), settings: settings, binary: binary,
		Dir: settings.Dir, iam: filepath.Join(dir, "iam"),
	}
	if s.Dir == "" {
		s.Dir = filepath.Join(dir, "data")
	}
	for _, d := range []string{s.Dir, s.iam, s.versions()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	// Another process may take a free port before versitygw does.
	var err error
	for range 8 {
		if s.Address, err = freeAddress(); err != nil {
			return nil, err
		}
		s.Endpoint = "http://" + s.Address
		if settings.Certificate != "" {
			s.Endpoint = "https://" + s.Address
		}
		if err = s.Resume(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func (s *Server) versions() string { return s.iam + "-versions" }

// secret is random text in hexadecimal.
func secret(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // it never fails
	return strings.ToUpper(hex.EncodeToString(b))
}

// freeAddress is one where nobody listens, below the ports that the kernel gives to those who call: so that it is still
// free when the store comes back.
func freeAddress() (string, error) {
	var err error
	for range 100 {
		n, _ := rand.Int(rand.Reader, big.NewInt(12_000)) // it never fails
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+int(n.Int64())))
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	return "", fmt.Errorf("finding a free port: %w", err)
}

// Resume starts the store again after Stop or Kill, at the same address, with what it had.
func (s *Server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		return errors.New("the store runs already")
	}
	args := []string{"-listen", s.Address, "-data", s.Dir, "-iam", s.iam, "-region", Region}
	if s.settings.Versions {
		args = append(args, "-versions", s.versions())
	}
	if s.settings.Certificate != "" {
		args = append(args, "-cert", s.settings.Certificate, "-key", s.settings.Key)
	}
	p := &process{command: exec.Command(s.binary, args...), output: &output{}, ended: make(chan struct{})}
	p.command.Env = append(os.Environ(), "VERSITYGW_ACCESS_KEY="+s.AccessKey, "VERSITYGW_SECRET_KEY="+s.SecretKey)
	p.command.Dir = s.iam
	p.command.Stderr = p.output
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for the test, which ends it
	var err error
	if p.stdin, err = p.command.StdinPipe(); err != nil {
		return err
	}
	stdout, err := p.command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.command.Start(); err != nil {
		return fmt.Errorf("starting the store: %w", err)
	}
	answers := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if lines.Text() == "listening" {
				answers <- true
			}
			fmt.Fprintln(p.output, lines.Text())
		}
		_ = p.command.Wait() // how it ended does not matter
		close(p.ended)
		select {
		case answers <- false:
		default:
		}
	}()
	select {
	case ok := <-answers:
		if ok {
			s.running = p
			return nil
		}
		return fmt.Errorf("the store ended at once: %s", p.output)
	case <-time.After(patience):
		_ = p.command.Process.Kill()
		<-p.ended
		return fmt.Errorf("the store does not answer: %s", p.output)
	}
}

// Stop ends the store in order: requests under way are answered. Stopping a stopped store does nothing.
func (s *Server) Stop() error { return s.end(syscall.SIGTERM) }

// Kill ends the store at once, as a crash does.
func (s *Server) Kill() error { return s.end(syscall.SIGKILL) }

// Close is Stop for the last time.
func (s *Server) Close() error { return s.Stop() }

func (s *Server) end(signal os.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.running
	if p == nil {
		return nil
	}
	s.running = nil
	_ = p.command.Process.Signal(signal) // it may have ended
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.command.Process.Kill()
		<-p.ended
	}
	_ = p.stdin.Close()
	return nil
}

// PID is that of the running process; 0 while it is stopped.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return 0
	}
	return s.running.command.Process.Pid
}

// Options reach the store as its root.
func (s *Server) Options() cloud.Options {
	return cloud.Options{
		Region: Region, Endpoint: s.Endpoint, PathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	}
}

// Environ is this process's environment, without its own AWS configuration, and Env: for other programs.
func (s *Server) Environ() []string {
	own := slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, "AWS_") })
	return append(own, s.Env()...)
}

// Env are the variables with which a program, such as picket or the AWS command line, reaches the store as its root.
func (s *Server) Env() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey,
		"AWS_REGION=" + Region, "AWS_DEFAULT_REGION=" + Region, "AWS_ENDPOINT_URL_S3=" + s.Endpoint, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
	}
}

// Client is a client of the store as its root.
func (s *Server) Client(t testing.TB) *s3.Client {
	t.Helper()
	client, err := s.Options().S3(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// NewBucket makes a bucket with a name of its own.
func (s *Server) NewBucket(t testing.TB) string {
	t.Helper()
	name := "bucket-" + strings.ToLower(secret(6))
	if _, err := s.Client(t).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
		t.Fatalf("making a bucket: %v", err)
	}
	return name
}

// Put stores an object.
func (s *Server) Put(t testing.TB, bucket, key string, body []byte) {
	t.Helper()
	if _, err := s.Client(t).PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body)}); err != nil {
		t.Fatalf("storing %s: %v", key, err)
	}
}

// Get is an object's content.
func (s *Server) Get(t testing.TB, bucket, key string) []byte {
	t.Helper()
	out, err := s.Client(t).GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		t.Fatalf("reading %s: %v", key, err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatalf("reading %s: %v", key, err)
	}
	return body
}

// Keys are the objects whose keys begin with prefix, in order.
func (s *Server) Keys(t testing.TB, bucket, prefix string) []string {
	t.Helper()
	var keys []string
	pages := s3.NewListObjectsV2Paginator(s.Client(t), &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatalf("listing %s: %v", prefix, err)
		}
		for _, object := range page.Contents {
			keys = append(keys, aws.ToString(object.Key))
		}
	}
	return keys
}

// output keeps the end of what the store says.
type output struct {
	mu   sync.Mutex
	text []byte
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	const most = 8 << 10
	o.text = append(o.text, b...)
	if len(o.text) > most {
		o.text = o.text[len(o.text)-most:]
	}
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}
