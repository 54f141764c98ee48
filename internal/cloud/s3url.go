package cloud

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// bucketName is what S3 allows, access points' names and older stores' underscores too, up to maxBucket characters: an
// expression that counts them takes each start of the program a millisecond.
var bucketName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]+$`)

// maxBucket is the longest name of a bucket.
const maxBucket = 255

// maxKey is S3's longest key.
const maxKey = 1024

// ParseS3 takes s3://bucket/key apart. The key is empty, or has no slash at its
// beginning; one at its end is kept, and says that it is a prefix. Whether they exist
// nobody is asked.
func ParseS3(url string) (bucket, key string, err error) {
	rest, found := strings.CutPrefix(url, "s3://")
	if !found {
		return "", "", fmt.Errorf("%q is no place in S3: write s3://bucket/prefix", shortened(url))
	}
	bucket, key, _ = strings.Cut(rest, "/")
	if len(bucket) > maxBucket || !bucketName.MatchString(bucket) {
		return "", "", fmt.Errorf("%q is no name of a bucket", shortened(bucket))
	}
	if len(key) > maxKey || !utf8.ValidString(key) || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", "", errors.New("its key has characters that S3 does not take, or is too long")
	}
	if strings.HasPrefix(key, "/") {
		return "", "", fmt.Errorf("the key of %q begins with a slash", shortened(url))
	}
	return bucket, key, nil
}
