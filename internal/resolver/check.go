package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/connfs/connfs/conn"
)

// EncodeChecks returns checks as the meta of an answer.
func EncodeChecks(checks []conn.Check) []byte {
	b, _ := json.Marshal(checks)
	return b
}

// Check tries the credentials and permissions of every backend and KMS. A separate child
// does it.
func (p *Pool) Check(ctx context.Context) ([]conn.Check, error) {
	a, err := p.alone(ctx, Frame{Op: OpCheck, Timeout: p.cfg.Timeout}, "trying the backends")
	if err != nil {
		return nil, err
	}
	var checks []conn.Check
	if err := json.Unmarshal(a.meta, &checks); err != nil {
		return nil, fmt.Errorf("reading the resolver's checks: %w", err)
	}
	return checks, nil
}

// grace is how much longer than its request a separate child may take: its own answer, which
// says what took so long, should come before the front gives up.
const grace = 2 * time.Second

// alone has a separate child answer one request, within the frame's timeout. doing says
// what the child does, for the messages.
func (p *Pool) alone(ctx context.Context, f Frame, doing string) (answer, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, f.Timeout+grace)
	defer cancel()
	c, err := p.start(ctx)
	if err != nil {
		return answer{}, err
	}
	defer c.proc.Kill()
	a, err := c.ask(ctx, f)
	switch {
	case errors.Is(err, errGone):
		return answer{}, conn.Errorf(conn.Failed, "", "the resolver child ended while it was %s",
			doing)
	case errors.Is(err, context.Canceled):
		return answer{}, conn.Errorf(conn.Interrupted, "", "nobody waits for %s any more", doing)
	case err != nil:
		return answer{}, conn.Errorf(conn.Timeout, "", "%s took longer than %s", doing,
			time.Since(start).Round(time.Second))
	case !a.header.OK:
		return answer{}, DecodeFailure(a.header, a.meta)
	}
	return a, nil
}
