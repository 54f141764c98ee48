package s3

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/picket-ml/picket/internal/cloud"
)

func TestStoreKeepsWhatItHas(t *testing.T) {
	server := Start(t)
	bucket := server.NewBucket(t)
	server.Put(t, bucket, "folder/one", []byte("first"))
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if server.PID() != 0 {
		t.Error("the store runs on after Kill")
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if got := server.Get(t, bucket, "folder/one"); string(got) != "first" {
		t.Errorf("after a restart the object is %q", got)
	}
	if got := server.Keys(t, bucket, "folder/"); len(got) != 1 || got[0] != "folder/one" {
		t.Errorf("keys %q", got)
	}
}

func TestUserIsDenied(t *testing.T) {
	server := Start(t)
	bucket := server.NewBucket(t)
	server.Put(t, bucket, "one", []byte("first"))
	user := server.NewUser(t)
	client, err := user.Options(server).S3(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("one")})
	if !cloud.Denied(err) {
		t.Errorf("a user that nobody let in reads: %v", err)
	}
	server.DeleteUser(t, user)
	_, err = client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("one")})
	if cloud.Code(err) != "InvalidAccessKeyId" {
		t.Errorf("a deleted user is told %v", err)
	}
}

// Each fault does what its name says, and ends with Clear.
func TestFaults(t *testing.T) {
	server := Start(t)
	bucket := server.NewBucket(t)
	body := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	server.Put(t, bucket, "one", body)
	proxy := NewProxy(t, server)
	client, err := proxy.Options().S3(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	read := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("one")}, func(o *s3.Options) { o.RetryMaxAttempts = 1 })
		if err != nil {
			return err
		}
		defer out.Body.Close()
		var got bytes.Buffer
		if _, err := got.ReadFrom(out.Body); err != nil {
			return err
		}
		if !bytes.Equal(got.Bytes(), body) {
			return errors.New("other bytes came")
		}
		return nil
	}
	works := func(when string) {
		t.Helper()
		if err := read(patience); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	works("without a fault")
	proxy.Cut(t, 512<<10)
	if err := read(patience); err == nil || !cloud.Temporary(err) {
		t.Errorf("a cut connection: %v", err)
	}
	proxy.Clear(t)
	works("after the cut")
	proxy.Down()
	if err := read(patience); err == nil || !cloud.Temporary(err) {
		t.Errorf("a line that is down: %v", err)
	}
	proxy.Up(t)
	works("after the line is up")
	proxy.Stall(t)
	if err := read(200 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stalled connection: %v", err)
	}
}
