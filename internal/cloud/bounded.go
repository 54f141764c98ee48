package cloud

import (
	"fmt"
	"io"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// maxKept is the most bytes of an answer that is held in memory. A page of a list has at most 1,000 keys of 1 KiB; errors and all else are smaller.
const maxKept = 16 << 20

// bounded is a client whose answers end with an error where they are longer than any that is right. The SDK reads all of them to their end, and into memory, but
// for the bytes of an object: a store that means harm, or is not one, would have this process take all the memory that there is.
// CloseIdleConnections is the http.Client's.
type bounded struct{ *http.Client }

// newBounded makes one of the SDK's client.
func newBounded(own *awshttp.BuildableClient) bounded {
	return bounded{&http.Client{Transport: own.GetTransport(), CheckRedirect: keepsMethod}}
}

// keepsMethod follows the redirects that S3 means, as the SDK's client does: those that send the same request elsewhere.
func keepsMethod(r *http.Request, via []*http.Request) error {
	status := r.Response.StatusCode
	if len(via) >= 10 || status != http.StatusTemporaryRedirect && status != http.StatusPermanentRedirect {
		return http.ErrUseLastResponse
	}
	return nil
}

// Do implements aws.HTTPClient.
func (b bounded) Do(r *http.Request) (*http.Response, error) {
	answer, err := b.Client.Do(r)
	if err != nil {
		return answer, err
	}
	object := r.Method == http.MethodGet && r.URL.Query().Get("x-id") == "GetObject" && answer.StatusCode/100 == 2
	if !object && answer.Body != nil {
		answer.Body = &kept{answer.Body, maxKept}
	}
	return answer, nil
}

// kept is the body of an answer that is held in memory.
type kept struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (k *kept) Read(p []byte) (int, error) {
	if k.left < 0 {
		return 0, errTooLong
	}
	if int64(len(p)) > k.left+1 { // one byte more shows that there is more
		p = p[:k.left+1]
	}
	n, err := k.ReadCloser.Read(p)
	if k.left -= int64(n); k.left < 0 {
		return n - 1, errTooLong
	}
	return n, err
}

var errTooLong = fmt.Errorf("the other side's answer has more than %d MiB, which none has that is right: is the endpoint the right one?", maxKept>>20)
