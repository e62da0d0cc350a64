package awslogin

import (
	"io"
	"net/http"

	"github.com/connfs/connfs/conn"
)

// maxAnswer bounds an answer, in bytes. No service of AWS that connfs asks gives a longer one.
const maxAnswer = 16 << 20

// bounded is a transport whose answers end at maxAnswer with an error: what answers at an
// endpoint may not be AWS.
type bounded struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Body = &boundedBody{ReadCloser: answer.Body, left: maxAnswer}
	}
	return answer, err
}

type boundedBody struct {
	io.ReadCloser
	left int
}

// Read implements [io.Reader].
func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, conn.Errorf(conn.TooLarge, "", "the answer is over %d bytes", maxAnswer)
	}
	return n, err
}
