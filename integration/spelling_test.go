//go:build integration

package integration_test

import "testing"

// To Airflow every spelling of an id is the same variable. A grant is for the spellings that it
// matches, so the variable must not answer to one that nobody meant.
func TestAVariableHasOneSpelling(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const carol = 5004
	variable := func(name, password string) string {
		return "AIRFLOW_CONN_" + name + `={"conn_type": "http", "host": "h", "password": "` +
			password + `"}`
	}
	s.configure("timeout = \"20s\"", s.environment(variable("PAYROLL", "payroll"),
		variable("PORTAL", "portal"), variable("LEDGER", "ledger"))+
		grant(alice, "[!p]*")+grant(bob, "payroll", "p*")+grant(carol, "Portal"))
	d := s.serve()
	text := func(id string) string { return fileText("http", "h", id, "") }

	a := as(t, alice)
	for _, id := range []string{"Payroll", "PAYROLL", "PayRoll", "Ledger", "LEDGER", "PORTAL"} {
		a.fails(d.file(id), "ENOENT")
	}
	for _, id := range []string{"payroll", "pAYROLL", "portal"} {
		a.fails(d.file(id), "EACCES")
	}
	a.reads(d.file("ledger"), text("ledger"))
	if got := a.do(request{Op: "list", Path: d.mount}); len(got.Names) != 2 {
		t.Errorf("alice sees %q, want ledger and what carol's grant spells", got.Names)
	}

	b := as(t, bob)
	b.reads(d.file("payroll"), text("payroll"))
	b.fails(d.file("pAYROLL"), "ENOENT")
	b.fails(d.file("portal"), "ENOENT") // its id is the one that carol's grant spells
	b.fails(d.file("Payroll"), "EACCES")

	as(t, carol).reads(d.file("Portal"), text("portal"))
}
