//go:build integration

package aws_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/resolve/aws"
	"github.com/connfs/connfs/resolve/resolvetest"
)

// BenchmarkSSMCold has 1,000 readers ask for 100 ids of Parameter Store at once, 20 ms
// away, with nothing cached. In connfs itself the broker
// makes one look-up of all readers of an id; here every reader is one.
func BenchmarkSSMCold(b *testing.B) {
	m := servers.StartMoto(b)
	ssm := services[0]
	const ids = 100
	for i := range ids {
		m.Populate(ssm.target, ssm.put(fmt.Sprint(ssm.prefix, "c", i), "postgres://u:p@h/db"))
	}
	p := servers.StartFaultProxy(b, m.URL)
	setEnvironment(b, p.URL)
	p.Inject(servers.Fault{Delay: 20 * time.Millisecond})
	for _, readers := range []int{1, ids, 1000} {
		b.Run(fmt.Sprintf("readers=%d", readers), func(b *testing.B) {
			backend := resolvetest.Open(b, aws.OpenSSM, nil)
			calls := 0
			for b.Loop() {
				p.Calls()
				var wg sync.WaitGroup
				for r := range readers {
					wg.Go(func() {
						if _, err := backend.Connection(b.Context(),
							fmt.Sprint("c", r%ids)); err != nil {
							b.Error(err)
						}
					})
				}
				wg.Wait()
				for _, n := range p.Calls() {
					calls += n
				}
			}
			b.ReportMetric(float64(calls)/float64(b.N), "calls/op")
		})
	}
}
