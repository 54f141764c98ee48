package upload

import (
	"strings"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/picket-ml/picket/internal/capture/spool"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/internal/testkit/s3"
)

func makeBucket(t *testing.T, client *awss3.Client) string {
	t.Helper()
	name := "bucket-of-tls"
	if _, err := client.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	return name
}

// A store whose certificate nobody here knows, or that has expired, gets nothing; the records wait, and leave for one that is trusted.
func TestCertificates(t *testing.T) {
	for name, c := range map[string]struct {
		until  time.Time
		knows  bool
		reason string
		says   string // empty where it is right
	}{
		"of a stranger": {time.Now().Add(time.Hour), false, "network", "signed by nobody known here"},
		"expired":       {time.Now().Add(-time.Hour), true, "clock", "certificate"},
		"known":         {time.Now().Add(time.Hour), true, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			own := testkit.NewCertificateUntil(t, "store", nil, c.until)
			server := s3.StartWith(t, s3.Settings{Certificate: own.File, Key: own.Key})
			o := server.Options()
			if c.knows {
				o.CABundle = own.File
			}
			client, err := o.S3(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			bucket := "bucket"
			if c.says == "" {
				bucket = makeBucket(t, client)
			}
			dir := t.TempDir()
			s := openSpool(t, dir, spool.Options{SegmentAge: 100 * time.Millisecond})
			defer s.Close()
			u := start(t, options(t, dir, s, NewBucket(client, Bucket{Name: bucket})))
			defer u.end()
			fill(t, s, 0, 2)
			if c.says == "" {
				within(t, "the records leave", func() bool { return s.Stats().OnDisk == 0 })
				return
			}
			within(t, "a refusal", func() bool { return u.Stats().Phase == Retrying })
			if err := u.Stats().Err; Reason(err) != c.reason || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the reason is %s: %v", Reason(err), err)
			}
			if st := s.Stats(); st.OnDisk != 2 || u.Stats().Objects != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}
