//go:build integration

package integration_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/connfs/connfs/integration/servers"
)

// besides reads a path of bob's n times while alice reads hers, in eight goroutines, for at
// least as long. It returns what alice saw.
func besides(d *daemon, hers []string, n int, his, want string) map[string]int {
	t := d.site.t
	a, b := as(t, alice), as(t, bob)
	hersDone := make(chan map[string]int)
	go func() {
		hersDone <- a.do(request{Op: "churn", Paths: hers, N: 8, For: 20 * time.Second}).Counts
	}()
	counts := make(map[string]int)
	var all map[string]int
	for i := 0; i < n || all == nil; i++ {
		got := b.read(his)
		counts[got.failure()+digest(got.Data)]++
		select {
		case all = <-hersDone:
		default:
		}
	}
	served := counts[digest([]byte(want))]
	t.Logf("bob: %v, alice: %v", counts, all)
	if len(counts) != 1 || served < n {
		t.Errorf("bob saw %v", counts)
	}
	return all
}

// Without a bound each of these rows is fetched whole, by a server that sends it at once.
func TestHugeRowsOfOneUserCostAnotherNothing(t *testing.T) {
	t.Parallel()
	db, key, s := servers.StartPostgres(t), newKey(t), newSite(t)
	db.Exec("airflow", rows(t, key, []string{"made-up"}))
	db.Exec("airflow", `INSERT INTO connection (id, conn_id, conn_type, extra)
		SELECT 100 + i, 'huge_' || i, 'http', repeat('x', 160000000) FROM generate_series(0, 3) i`)
	s.configure("ttl = \"0s\"",
		metastoreTable(db.URL("airflow", db.Password, "airflow"), key)+
			grant(alice, "huge_*")+grant(bob, "m0"))
	d := s.serve()
	var huge []string
	for i := range 4 {
		huge = append(huge, d.file(fmt.Sprintf("huge_%d", i)))
	}
	all := besides(d, huge, 200, d.file("m0"), fileText("http", "h.example", "made-up", ""))
	if len(all) != 1 || all["EFBIG"] == 0 {
		t.Errorf("alice saw %v, and not EFBIG alone", all)
	}
	if lines := s.auditLines(`"id":"huge_0"`); len(lines) == 0 {
		t.Error("no audit line")
	}
}

// The server does not answer for some ids, whatever the time, and works for all others.
func TestIdsThatTimeOutForOneUserAreNoOutageForAnother(t *testing.T) {
	t.Parallel()
	db, key, s := servers.StartPostgres(t), newKey(t), newSite(t)
	db.Exec("airflow", rows(t, key, []string{"made-up"}))
	db.Exec("airflow", `
		INSERT INTO connection (id, conn_id, conn_type)
			SELECT 100 + i, 'slow_' || i, 'http' FROM generate_series(0, 7) i;
		CREATE ROLE reader LOGIN PASSWORD 'made-up-login';
		GRANT SELECT ON connection TO reader;
		ALTER TABLE connection ENABLE ROW LEVEL SECURITY;
		CREATE POLICY slow ON connection USING (
			CASE WHEN conn_id LIKE 'slow%' THEN pg_sleep(60) IS NOT NULL ELSE true END);
		-- Or what sleeps for a child that is gone would hold its connections.
		ALTER ROLE reader SET client_connection_check_interval = '200ms'`)
	s.configure("ttl = \"0s\"",
		metastoreTable(db.URL("reader", "made-up-login", "airflow"), key)+
			grant(alice, "slow_*")+grant(bob, "m0"))
	d := s.serve()
	var slow []string
	for i := range 8 {
		slow = append(slow, d.file(fmt.Sprintf("slow_%d", i)))
	}
	all := besides(d, slow, 100, d.file("m0"), fileText("http", "h.example", "made-up", ""))
	if want := map[string]int{"ETIMEDOUT": all["ETIMEDOUT"]}; !maps.Equal(all, want) {
		t.Errorf("alice saw %v, and not ETIMEDOUT alone", all)
	}
}
