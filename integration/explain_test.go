//go:build integration

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each reason for a refusal is explained in its own words, and no explanation shows a value.
func TestExplainSaysEveryKindOfNo(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 1<<20)
	s := newSite(t)
	environment := s.environment(`AIRFLOW_CONN_FINE=http://u:s3cret@h/`, `AIRFLOW_CONN_BROKEN={"password": "s3cret`,
		`AIRFLOW_CONN_LARGE={"conn_type": "http", "password": "s3cret", "extra": "`+large+`"}`)
	key, other := newKey(t), newKey(t)
	grants := grant(alice, "fine", "broken", "large", "m*", "absent") +
		"[[grant]]\nrun_as_user = \"ghost-of-connfs\"\nconnections = [\"haunted\"]\n" +
		"[[grant]]\ndag = \"nothing_*\"\nconnections = [\"derived\"]\n"
	metastore := s.sqliteMetastore(rows(t, other, []string{"s3cret"}))
	file := filepath.Join(s.home, "airflow.db")

	for _, c := range []struct {
		name      string
		uid       int
		id        string
		url       string
		prepare   func()
		wants     []string
		exclusive bool // nothing is asked
	}{
		{name: "none", uid: alice, id: "fine", wants: []string{`caller +uid 5001 \(no account of this machine\)`, `policy +allowed by .*config.toml:\d+`,
			`environment +found; this decides .*`,
			`limits +the daemon allows each uid 16 fetches at a time ` +
				`\(more wait, and get ETIMEDOUT after [0-9]+s\), 64 unknown ids a second \(then EAGAIN\) .*`,
			`result +it can be read`}},
		{name: "no grant for the uid", uid: bob, id: "fine", exclusive: true, wants: []string{`policy +refused: no grant for this uid`,
			`rules +.*config.toml:\d+ grants it to run_as_user "#5001", which is uid 5001`,
			`result +a reader gets EACCES: permission denied`}},
		{
			name: "root is nobody special", uid: 0, id: "fine", exclusive: true,
			wants: []string{
				`caller +uid 0 \(root\)`, `policy +refused: no grant for this uid`,
				`result +a reader gets EACCES: .*`,
			},
		},
		{
			name: "no grant of the id", uid: alice, id: "other", exclusive: true,
			wants: []string{
				`policy +refused: no grant of this uid names the id`,
				`rules +no \[\[grant\]\] names this id`,
			},
		},
		{
			name: "another case", uid: alice, id: "FINE", exclusive: true,
			wants: []string{
				` +.*config.toml:\d+ grants "fine", and ids are compared byte for byte`,
			},
		},
		{
			name: "an unknown user", uid: alice, id: "haunted", exclusive: true,
			wants: []string{
				`rules +.*:\d+ grants it to run_as_user "ghost-of-connfs", ` +
					`whom this machine does not know`,
			},
		},
		{
			name: "a DAG that nobody knows", uid: alice, id: "derived", exclusive: true,
			wants: []string{
				`rules +.*:\d+ grants it to the users of DAGs, ` +
					`and the serialized DAGs cannot be read`,
			},
		},
		{
			name: "the uid of nobody", uid: 65534, id: "fine", exclusive: true,
			wants: []string{
				`caller +uid 65534 \(the kernel shows this uid in place of one that it cannot map, .*`,
				`policy +refused: .*`,
			},
		},
		{
			name: "a file name", uid: alice, id: "fine.json", exclusive: true,
			wants: []string{
				`note +"fine.json" looks like a file name: the id of that file is "fine"`,
			},
		},
		{
			name: "an id without a file", uid: alice, id: "",
			wants: []string{`file +none: this id cannot be a file name`},
		},
		{
			name: "a name too long", uid: alice, id: "m" + strings.Repeat("x", 1100),
			wants: []string{`file +none: this id cannot be a file name`},
		},
		{
			name: "invalid", uid: alice, id: "broken",
			wants: []string{
				`environment +invalid: .*; this decides .*`,
				`result +a reader gets EBADMSG: bad message`,
			},
		},
		{name: "too large", uid: alice, id: "large", wants: []string{`environment +too large: the connection is \d+ bytes long, and 1048576 are served at most; this decides .*`, `result +a reader gets EFBIG: file too large`}},
		{
			name: "key rejected", uid: alice, id: "m0",
			wants: []string{
				`metastore +key rejected: .*; this decides .*`,
				`result +a reader gets EKEYREJECTED: .*`,
			},
		},
		{
			name: "absent", uid: alice, id: "absent",
			wants: []string{
				`environment +absent: .*`, `metastore +absent.*`,
				`result +a reader gets ENOENT: no such file or directory`,
			},
		},
		{name: "denied", uid: alice, id: "m0", prepare: func() {
			must(t, os.Chown(file, 0, 0), os.Chmod(file, 0o600))
		},
			wants: []string{
				`metastore +denied: .*; this decides .*`, `result +a reader gets EACCES: .*`,
			}},
		{name: "unreachable", uid: alice, id: "m0", prepare: func() {
			must(t, os.Rename(file, file+".away"))
		},
			wants: []string{
				`metastore +unreachable: .*; this decides .*`, `result +a reader gets EIO: .*`,
			}},
		{name: "timeout", uid: alice, id: "m0", url: fmt.Sprintf(
			"postgresql://u:s3cret@127.0.0.1:%d/airflow?sslmode=disable", blackHole(t),
		),
			wants: []string{
				`metastore +timeout: .*; this decides .*`, `result +a reader gets ETIMEDOUT: .*`,
			}},
	} {
		if c.prepare != nil {
			c.prepare()
		}
		timeout := "1s" // what never answers takes all of it
		if c.url == "" {
			c.url, timeout = metastore, "20s"
		}
		s.configure(fmt.Sprintf("timeout = %q", timeout),
			metastoreTable(c.url, key)+environment+grants)
		out, stderr, code := output(t, 0, connfsBinary, "explain", "--config", s.config, "--uid",
			fmt.Sprint(c.uid), "--", c.id)
		if code != 0 {
			t.Errorf("%s: exit code %d: %s", c.name, code, stderr)
		}
		for _, want := range c.wants {
			if !regexp.MustCompile("(?m)^" + want + "$").Match(out) {
				t.Errorf("%s: no line %q in\n%.2000s", c.name, want, out)
			}
		}
		if c.exclusive && regexp.MustCompile(`(?m)^(environment|metastore) `).Match(out) {
			t.Errorf("%s: a backend was asked:\n%s", c.name, out)
		}
		if strings.Contains(string(out)+stderr, "s3cret") {
			t.Errorf("%s: the value is shown", c.name)
		}
	}
}

// An ordinary user can only explain its own reads, with a configuration of its own.
func TestExplainForAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	must(t, os.Chown(s.home, alice, alice))
	s.write("connections.env", "AIRFLOW_CONN_FINE=http://u:s3cret@h/\n")
	config := s.write(
		"config.toml",
		fmt.Sprintf("memory_lock = \"try\"\n[environment]\nfile = %q\n",
			s.home+"/connections.env")+grant(alice, "fine")+grant(bob, "b*"),
	)
	must(t, os.Chown(config, alice, alice), os.Chown(s.home+"/connections.env", alice, alice))
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"fine"}, 0, "it can be read"},
		{[]string{"bills"}, 0, `grants it to run_as_user "#5002", which is uid 5002`},
		{[]string{"--uid", "5001", "fine"}, 0, "it can be read"},
		{[]string{"--uid", "5002", "fine"}, 4, "only root may ask for another uid"},
		{[]string{"--uid", "0", "fine"}, 4, "only root may ask for another uid"},
	} {
		out, stderr, code := output(t, alice,
			append([]string{connfsBinary, "explain", "--config", config}, c.args...)...)
		if code != c.code || !strings.Contains(string(out)+stderr, c.want) ||
			strings.Contains(string(out)+stderr, "s3cret") {
			t.Errorf("%v: exit code %d, want %d and %q:\n%s%s", c.args, code, c.code, c.want, out,
				stderr)
		}
	}
}
