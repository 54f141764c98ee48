package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/picket-ml/picket/internal/cloud"
	"github.com/picket-ml/picket/internal/testkit/s3"
)

// refusing lets so many downloads begin; then nobody answers, as when the line goes down.
type refusing struct {
	awss3.HTTPClient
	left atomic.Int64
}

func (r *refusing) Do(request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodGet && r.left.Add(-1) < 0 {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	return r.HTTPClient.Do(request)
}

// The line is cut at every twentieth of the way and stays down. What serves stays; the next try, of another process as
// far as the package can tell, fetches exactly the rest.
func TestPullCutAtEvery5Percent(t *testing.T) {
	p := newPlace(t)
	body := random(20 * leafBytes)
	p.push("m-1", body)
	for percent := 5; percent <= 95; percent += 5 {
		dir := t.TempDir()
		root := openRoot(t, dir)
		old := []byte("the model that serves")
		if err := os.WriteFile(filepath.Join(dir, "m-1"), old, 0o600); err != nil {
			t.Fatal(err)
		}
		o := PullOptions{PartBytes: int64(len(body)), Parallel: 1, Retry: once(), Replace: true}
		p.proxy.Cut(t, int64(len(body)*percent/100))
		from := p.object("m-1")
		options := from.Client.Options()
		line := &refusing{HTTPClient: options.HTTPClient}
		line.left.Store(1)
		options.HTTPClient, options.Retryer = line, aws.NopRetryer{}
		from.Client = awss3.New(options)
		got, err := Pull(t.Context(), from, root, "m-1", o)
		p.proxy.Clear(t)
		if !cloud.Temporary(err) || !strings.Contains(err.Error(), "refused") {
			t.Fatalf("%d%%: %v", percent, err)
		}
		// What comes first on the connection is the answer's header.
		if cut := int64(len(body) * percent / 100); got.Transferred > cut || got.Transferred < cut-4096 {
			t.Errorf("%d%%: %d bytes came", percent, got.Transferred)
		}
		if now, _ := os.ReadFile(filepath.Join(dir, "m-1")); !bytes.Equal(now, old) {
			t.Fatalf("%d%%: a download that failed changed the file", percent)
		}
		rest, err := Pull(t.Context(), p.object("m-1"), root, "m-1", o)
		if err != nil {
			t.Fatalf("%d%%, the next try: %v", percent, err)
		}
		if rest.Resumed != got.Transferred || rest.Resumed+rest.Transferred != int64(len(body)) {
			t.Errorf("%d%%: %d bytes came first, %d were kept, %d came then; the object has %d", percent, got.Transferred, rest.Resumed, rest.Transferred, len(body))
		}
		if now, _ := os.ReadFile(filepath.Join(dir, "m-1")); !bytes.Equal(now, body) {
			t.Errorf("%d%%: other bytes came", percent)
		}
	}
}

// Whatever keeps a pull from succeeding, what serves stays, one sentence says what it is, and whether to try again.
func TestPullFaults(t *testing.T) {
	p := newPlace(t)
	body := random(4 * leafBytes)
	p.push("m-1", body)
	user := p.server.NewUser(t)
	old := []byte("the model that serves")
	if err := os.WriteFile(filepath.Join(p.dir, "m-1"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := fmt.Sprintf("127.0.0.1:%d", 1) // a port that nobody listens on
	tests := map[string]struct {
		change    func(*cloud.Options)
		client    func(*awss3.Options)
		bucket    string
		want      string
		temporary bool
	}{
		"no such name": {change: func(o *cloud.Options) { o.Endpoint = "http://store.invalid:9000" }, want: "the name store.invalid cannot be resolved", temporary: true},
		"nobody there": {change: func(o *cloud.Options) { o.Endpoint = "http://" + nobody }, want: "is refused: nobody listens there", temporary: true},
		"no TLS":       {change: func(o *cloud.Options) { o.Endpoint = strings.Replace(o.Endpoint, "http:", "https:", 1) }, want: "speaks no TLS"},
		"denied":       {change: func(o *cloud.Options) { o.Credentials = user.Options(p.server).Credentials }, want: "access is denied"},
		"no such key": {change: func(o *cloud.Options) {
			o.Credentials = (s3.User{AccessKey: "NOBODY", SecretKey: "nothing"}).Options(p.server).Credentials
		}, want: "the access key is not known there"},
		"wrong secret": {change: func(o *cloud.Options) {
			o.Credentials = (s3.User{AccessKey: p.server.AccessKey, SecretKey: "nothing"}).Options(p.server).Credentials
		}, want: "the secret key does not belong to the access key"},
		"wrong region":   {change: func(o *cloud.Options) { o.Region = "eu-central-1" }, want: "the bucket is in the region us-west-2 and not in the one that was asked: give --region us-west-2"},
		"no such bucket": {bucket: "no-such-bucket", want: "there is no such"},
		"clock is slow":  {client: clockOff(-time.Hour), want: "this host's clock is wrong"},
		"clock is fast":  {client: clockOff(time.Hour), want: "this host's clock is wrong"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := p.server.Options()
			if test.change != nil {
				test.change(&o)
			}
			cfg, err := o.Config(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			options := o.Client(cfg).Options()
			options.Retryer = aws.NopRetryer{}
			if test.client != nil {
				test.client(&options)
			}
			from := Object{Client: awss3.New(options), Bucket: p.bucket, Key: "m-1"}
			if test.bucket != "" {
				from.Bucket = test.bucket
			}
			_, err = Pull(t.Context(), from, p.root, "m-1", PullOptions{Retry: once(), Replace: true})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("%v\nwant %q", err, test.want)
			}
			if cloud.Temporary(err) != test.temporary || strings.ContainsAny(err.Error(), "\n") {
				t.Errorf("temporary %v: %v", cloud.Temporary(err), err)
			}
			if now, _ := os.ReadFile(filepath.Join(p.dir, "m-1")); !bytes.Equal(now, old) {
				t.Error("a pull that failed changed the file")
			}
		})
	}
	if _, err := Pull(t.Context(), p.object("m-1"), p.root, "m-1", PullOptions{Retry: once(), Replace: true}); err != nil {
		t.Fatal(err)
	}
	p.has("m-1", body)
}

// skewed signs as a host does whose clock is off.
type skewed struct {
	awss3.HTTPSignerV4
	by time.Duration
}

func (s skewed) SignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, payload, service, region string, at time.Time, o ...func(*v4.SignerOptions)) error {
	return s.HTTPSignerV4.SignHTTP(ctx, c, r, payload, service, region, at.Add(s.by), o...)
}

func clockOff(by time.Duration) func(*awss3.Options) {
	return func(o *awss3.Options) {
		o.HTTPSignerV4 = skewed{o.HTTPSignerV4, by}
		o.AuthSchemes = nil // they are made again, with this signer
	}
}

// rotating gives the credentials of one user after the other.
type rotating struct {
	users []s3.User
	given atomic.Int64
}

func (r *rotating) Retrieve(context.Context) (aws.Credentials, error) {
	u := r.users[min(int(r.given.Add(1)), len(r.users))-1]
	return aws.Credentials{AccessKeyID: u.AccessKey, SecretAccessKey: u.SecretKey, CanExpire: true, Expires: time.Now().Add(time.Hour)}, nil
}

// The store no longer takes the credentials in the middle of a download, as when a role's session ends: new ones are fetched, and it goes on.
func TestPullCredentialsEndInTheMiddle(t *testing.T) {
	p := newPlace(t)
	body := random(16 * leafBytes)
	p.push("m-1", body)
	first, second := p.server.NewUser(t), p.server.NewUser(t)
	policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["%s","%s"]},"Action":"s3:GetObject","Resource":"arn:aws:s3:::%s/*"}]}`, first.AccessKey, second.AccessKey, p.bucket)
	if _, err := p.server.Client(t).PutBucketPolicy(t.Context(), &awss3.PutBucketPolicyInput{Bucket: &p.bucket, Policy: &policy}); err != nil {
		t.Fatal(err)
	}
	credentials := &rotating{users: []s3.User{first, second}}
	o := p.proxy.Options()
	o.Credentials = credentials
	client, err := o.S3(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.proxy.Slow(t, 2<<10)
	var ended atomic.Bool
	got, err := Pull(t.Context(), Object{Client: client, Bucket: p.bucket, Key: "m-1"}, p.root, "m-1", PullOptions{PartBytes: leafBytes, Parallel: 2, Retry: quick(), Progress: func(done, total int64) {
		if done > 0 && done < total && ended.CompareAndSwap(false, true) {
			p.server.DeleteUser(t, first)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !ended.Load() || credentials.given.Load() < 2 {
		t.Errorf("the credentials did not end in the middle: they were fetched %d times", credentials.given.Load())
	}
	if got.Transferred != int64(len(body)) {
		t.Errorf("%d bytes came", got.Transferred)
	}
	p.has("m-1", body)
}

// A connection that says nothing any more does not hold a pull for ever: the caller's deadline ends it, and what came is kept.
func TestPullStalls(t *testing.T) {
	p := newPlace(t)
	body := random(8 * leafBytes)
	p.push("m-1", body)
	p.proxy.Slow(t, 512)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stalled atomic.Bool
	got, err := Pull(ctx, p.object("m-1"), p.root, "m-1", PullOptions{PartBytes: leafBytes, Parallel: 1, Retry: quick(), Progress: func(done, _ int64) {
		if done > 0 && stalled.CompareAndSwap(false, true) {
			p.proxy.Stall(t)
			time.AfterFunc(100*time.Millisecond, cancel)
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	p.proxy.Clear(t)
	rest, err := Pull(t.Context(), p.object("m-1"), p.root, "m-1", PullOptions{PartBytes: leafBytes, Retry: quick()})
	if err != nil || rest.Resumed != got.Transferred || rest.Resumed == 0 {
		t.Errorf("%+v after %+v, %v", rest, got, err)
	}
	p.has("m-1", body)
}

// onSmallDisk runs the test of that name again in a user namespace with an 8 MiB file system of its own, whose folder it
// returns there. It returns "" in the process that was started first, where the test is then over.
func onSmallDisk(t *testing.T) string {
	t.Helper()
	const variable = "PICKET_TEST_SMALL_DISK"
	if dir := os.Getenv(variable); dir != "" {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
			t.Fatalf("mounting a small file system: %v", err)
		}
		return dir
	}
	s3.Binary(t) // it is built outside
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	command.Env = append(os.Environ(), variable+"="+t.TempDir())
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	output, err := command.CombinedOutput()
	if err != nil || !bytes.Contains(output, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("on a small disk: %v\n%s", err, output)
	}
	return ""
}

// The disk has no room: before anything is fetched where that can be known, and in the middle where it cannot. What serves
// stays, the sentence says it, and when there is room the next try goes on with what is there.
func TestPullDiskFull(t *testing.T) {
	disk := onSmallDisk(t)
	if disk == "" {
		return
	}
	p := newPlace(t)
	p.dir, p.root = disk, openRoot(t, disk)
	old, body := random(1<<20), random(5<<20)
	if err := os.WriteFile(filepath.Join(disk, "m-1"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	p.push("m-1", body)
	o := PullOptions{PartBytes: leafBytes, Retry: once(), Replace: true}
	refused := func(when string, want ...string) {
		t.Helper()
		_, err := Pull(t.Context(), p.object("m-1"), p.root, "m-1", o)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%s: %v", when, err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %q in it", when, err, w)
			}
		}
		if now, _ := os.ReadFile(filepath.Join(disk, "m-1")); !bytes.Equal(now, old) {
			t.Fatalf("%s: the file that serves has changed", when)
		}
	}
	hog := filepath.Join(disk, "hog")
	if err := os.WriteFile(hog, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("no room from the start", "the disk has no room for it", "5242880 bytes are needed")
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(t.Context(), p.object("m-1"), p.root, "m-1", o); err != nil {
		t.Fatal(err)
	}
	p.has("m-1", body)
}

// A write fails in the middle, on a file system that promised the room and has it no longer: what came is kept.
func TestPullWriteFailsInTheMiddle(t *testing.T) {
	p := newPlace(t)
	body := random(20 * leafBytes)
	p.push("m-1", body)
	for percent := 5; percent <= 95; percent += 15 {
		dir := t.TempDir()
		root := openRoot(t, dir)
		o := PullOptions{PartBytes: leafBytes, Parallel: 2, Retry: once()}
		limit := int64(len(body) * percent / 100)
		full := syscall.ENOSPC
		o.write = func(f *os.File, b []byte, at int64) (int, error) {
			if at+int64(len(b)) > limit {
				return 0, &os.PathError{Op: "write", Path: f.Name(), Err: full}
			}
			return f.WriteAt(b, at)
		}
		got, err := Pull(t.Context(), p.object("m-1"), root, "m-1", o)
		if !errors.Is(err, full) || err.Error() != "the disk is full: make room and pull again, what came is kept" {
			t.Fatalf("%d%%: %v", percent, err)
		}
		o.write = nil
		rest, err := Pull(t.Context(), p.object("m-1"), root, "m-1", o)
		if err != nil || rest.Resumed != got.Transferred || rest.Resumed+rest.Transferred != int64(len(body)) {
			t.Errorf("%d%%: %+v after %+v, %v", percent, rest, got, err)
		}
		if now, _ := os.ReadFile(filepath.Join(dir, "m-1")); !bytes.Equal(now, body) {
			t.Errorf("%d%%: other bytes", percent)
		}
	}
}
