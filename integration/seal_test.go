//go:build integration

package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/kms"
)

// sealedSite is a site with two local KMS, main and new, and a metastore that root may
// write.
type sealedSite struct {
	*site
	db *sql.DB
}

// sealFernetKey is the fernet_key of these sealMetastores.
const sealFernetKey = "-6GE8YNTIRPIvdL1q6_QBUTi2OhZXDiTwnDwZEajuWM="

// sealMetastores are the databases of these tests: a URL, and a pool that owns it.
var sealMetastores = map[string]func(t *testing.T, s *site) (url string, db *sql.DB){
	"sqlite": func(t *testing.T, s *site) (string, *sql.DB) {
		path := filepath.Join(s.home, "meta.db")
		db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(10000)")
		must(t, err)
		_, err = db.Exec(`CREATE TABLE connection (id INTEGER PRIMARY KEY, conn_id VARCHAR(250) UNIQUE NOT NULL, conn_type VARCHAR(500) NOT NULL, description TEXT,
			host VARCHAR(500), schema VARCHAR(500), login TEXT, password TEXT, port INTEGER, is_encrypted BOOLEAN, is_extra_encrypted BOOLEAN, extra TEXT)`)
		must(t, err, os.Chown(path, owner, owner))
		return "sqlite:///" + path, db
	},
	"postgres": func(t *testing.T, s *site) (string, *sql.DB) {
		p := servers.StartPostgres(t)
		p.Exec("airflow", `CREATE TABLE connection (id serial PRIMARY KEY, conn_id varchar(250) NOT NULL UNIQUE, conn_type varchar(500) NOT NULL, description text,
			host varchar(500), schema varchar(500), login text, password text, port integer, is_encrypted boolean, is_extra_encrypted boolean, extra text)`)
		db, err := sql.Open(
			"pgx",
			fmt.Sprintf(
				"host=127.0.0.1 port=%d user=airflow password=%s dbname=airflow sslmode=disable",
				p.Port, p.Password,
			),
		)
		must(t, err)
		return p.URL("airflow", p.Password, "airflow"), db
	},
	"mariadb": func(t *testing.T, s *site) (string, *sql.DB) {
		m := servers.StartMariaDB(t)
		m.Exec("airflow", "CREATE TABLE connection (id int AUTO_INCREMENT PRIMARY KEY, conn_id "+
			"varchar(250) NOT NULL UNIQUE, conn_type varchar(500) NOT NULL, description text, "+
			"host varchar(500), `schema` varchar(500), login text, password text, port int, "+
			"is_encrypted tinyint(1), is_extra_encrypted tinyint(1), extra text)")
		return m.URL("airflow", m.Password, "airflow"), m.Open("airflow")
	},
}

func newSealedSite(t *testing.T, database string, rows int) *sealedSite {
	t.Helper()
	s := newSite(t)
	url, db := sealMetastores[database](t, s)
	t.Cleanup(func() { db.Close() })
	for i := range rows {
		_, err := db.Exec(fmt.Sprintf(`INSERT INTO connection (conn_id, conn_type, host, login, password, port, is_encrypted, is_extra_encrypted, extra)
			VALUES ('c%03d', 'postgres', 'h%d', 'u', 's3cret-%d', %d, false, false, '{"n": [%d, "é"]}')`, i, i, i, 1000+i, i))
		must(t, err)
	}
	var tables strings.Builder
	fmt.Fprintf(&tables, "[metastore]\nurl = %q\nfernet_key = %q\n", url, sealFernetKey)
	for _, name := range []string{"main", "new"} {
		key, _, err := kms.GenerateLocalKey()
		must(t, err)
		path := s.write(name+".key", string(key))
		fmt.Fprintf(&tables, "[kms.%s]\ntype = \"local\"\nkey = %q\n", name, path)
	}
	s.configure("", tables.String()+grant(0, "*")+grant(alice, "*"))
	return &sealedSite{s, db}
}

// command runs connfs in a process group of its own.
func (s *sealedSite) command(args ...string) (cmd *exec.Cmd, out, errs *bytes.Buffer) {
	cmd = exec.Command(connfsBinary,
		append([]string{args[0], "--config", s.config}, args[1:]...)...)
	out, errs = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", []string{"PATH=" + os.Getenv("PATH")}, out, errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	return cmd, out, errs
}

// connfs runs connfs and returns its exit code and what it printed.
func (s *sealedSite) connfs(args ...string) (code int, out, errs string) {
	s.t.Helper()
	cmd, stdout, stderr := s.command(args...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func (s *sealedSite) succeeds(args ...string) string {
	s.t.Helper()
	code, _, errs := s.connfs(args...)
	if code != 0 {
		s.t.Fatalf("connfs %s: exit code %d\n%s", strings.Join(args, " "), code, errs)
	}
	return errs
}

// count returns how many rows hold a text in their extra.
func (s *sealedSite) count(pattern string) int {
	s.t.Helper()
	var n int
	must(s.t,
		s.db.QueryRow("SELECT count(*) FROM connection WHERE extra LIKE '"+pattern+"'").Scan(&n))
	return n
}

// files returns what the mount has in it.
func (s *sealedSite) files(rows int) map[string]string {
	s.t.Helper()
	files := make(map[string]string)
	for i := range rows {
		id := fmt.Sprintf("c%03d", i)
		out, err := exec.Command("cat", s.file(id)).Output()
		if err != nil {
			s.t.Fatalf("%s: %v", id, err)
		}
		files[id] = string(out)
	}
	return files
}

func TestReadersNoticeNothingOfSealing(t *testing.T) {
	for database := range sealMetastores {
		t.Run(database, func(t *testing.T) {
			t.Parallel()
			const rows = 6
			s := newSealedSite(t, database, rows)
			s.serve()
			before := s.files(rows)
			same := func(when string) {
				t.Helper()
				for id, text := range before {
					code, out, errs := s.connfs("get", id)
					if code != 0 || out != text {
						t.Errorf("%s: connfs get %s: exit code %d, equal %v\n%s", when, id, code,
							out == text, errs)
					}
				}
			}
			if s.succeeds(
				"seal", "--kms", "main", "--id", "*", "--dry-run",
			); s.count("%connfs_sealed%") != 0 {
				t.Error("a dry run wrote something")
			}
			s.succeeds("seal", "--kms", "main", "--id", "*", "--fields", "all")
			if n := s.count("{\"connfs_sealed\"%"); n != rows {
				t.Errorf("%d rows are sealed", n)
			}
			var left int
			must(
				t,
				s.db.QueryRow(
					"SELECT count(*) FROM connection WHERE password IS NOT NULL OR login IS NOT "+
						"NULL OR host IS NOT NULL OR port IS NOT NULL",
				).Scan(&left),
			)
			if left != 0 {
				t.Errorf("%d rows hold something in clear", left)
			}
			same("sealed")
			s.succeeds("rotate", "--kms", "main", "--to", "new")
			same("rotated")
			eventually(t, "the mount shows the same", func() bool {
				after := s.files(rows)
				for id := range before {
					if after[id] != before[id] {
						return false
					}
				}
				return true
			})
			s.succeeds("unseal", "--id", "*")
			same("unsealed")
			if n := s.count("gAAAA%"); n != rows {
				t.Errorf("%d extras are encrypted as Airflow does", n)
			}
		})
	}
}

// TestRotateSurvivesBeingKilled kills the whole process group at points all over a run,
// again and again, until a run completes.
func TestRotateSurvivesBeingKilled(t *testing.T) {
	for database := range sealMetastores {
		t.Run(database, func(t *testing.T) {
			t.Parallel()
			const rows = 40
			s := newSealedSite(t, database, rows)
			before := make(map[string]string)
			for i := range rows {
				id := fmt.Sprintf("c%03d", i)
				if i%8 == 0 {
					_, out, _ := s.connfs("get", id)
					before[id] = out
				}
			}
			s.succeeds("seal", "--kms", "main", "--id", "*")
			kills, from, to := 0, "main", "new"
			for kills < 25 {
				cmd, _, _ := s.command("rotate", "--kms", from, "--to", to)
				must(t, cmd.Start())
				timer := time.AfterFunc(time.Duration(rand.IntN(900))*time.Millisecond, func() {
					killTree(cmd.Process.Pid)
				})
				cmd.Wait()
				if !timer.Stop() {
					kills++
				} else if code := cmd.ProcessState.ExitCode(); code != 0 {
					t.Fatalf("exit code %d of a run that nobody killed", code)
				} else {
					from, to = to, from
				}
				if n := s.count("%connfs_sealed%"); n != rows {
					t.Fatalf("after a kill %d of %d rows are sealed", n, rows)
				}
			}
			// Every row opens, whatever key it has now.
			if _, _, errs := s.connfs("unseal", "--id", "*", "--dry-run"); !strings.Contains(
				errs, fmt.Sprintf("connfs: %d unsealed; nothing was written", rows),
			) {
				t.Fatalf("not every row opens:\n%s", errs)
			}
			s.succeeds("rotate", "--kms", from, "--to", to)
			if n := s.count(`%"kms_conn_id":"` + to + `"%`); n != rows {
				t.Errorf("%d of %d rows are sealed by the new KMS", n, rows)
			}
			s.succeeds("unseal", "--id", "*")
			for id, want := range before {
				if _, got, _ := s.connfs("get", id); got != want {
					t.Errorf("%s is another one", id)
				}
			}
		})
	}
}

// killTree kills a process and its children, which have process groups of their own.
func killTree(pid int) {
	var children []string
	// each lists what it forked itself
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, thread := range threads {
		text, _ := os.ReadFile(thread)
		children = append(children, strings.Fields(string(text))...)
	}
	syscall.Kill(-pid, syscall.SIGKILL)
	for _, child := range children {
		var n int
		if _, err := fmt.Sscan(child, &n); err == nil {
			syscall.Kill(n, syscall.SIGKILL)
		}
	}
}

// TestRotateSaysWhereItWasStopped interrupts it while another writer holds it up at a row.
func TestRotateSaysWhereItWasStopped(t *testing.T) {
	t.Parallel()
	const rows = 60
	s := newSealedSite(t, "sqlite", rows)
	s.succeeds("seal", "--kms", "main", "--id", "*")
	c, err := s.db.Conn(t.Context())
	must(t, err)
	defer c.Close()
	from, to := "main", "new"
	for range 20 {
		cmd, _, errs := s.command("rotate", "--kms", from, "--to", to)
		cmd.Stdout = nil
		out, err := cmd.StdoutPipe()
		must(t, err, cmd.Start())
		lines := bufio.NewScanner(out)
		if !lines.Scan() {
			t.Fatal("nothing was printed")
		}
		_, err = c.ExecContext(t.Context(), "BEGIN IMMEDIATE")
		must(t, err, cmd.Process.Signal(syscall.SIGINT))
		_, err = c.ExecContext(t.Context(), "ROLLBACK")
		must(t, err)
		done := 1
		for lines.Scan() {
			done++
		}
		if cmd.Wait() == nil {
			from, to = to, from // the writer came too late
			continue
		}
		want := fmt.Sprintf(`(?m)^connfs: failed: stopped after the row "c%03d"; %d rows were not `+
			`tried \(run the command again: rows that are done stay as they are\)$`, done-1, rows-done)
		if !regexp.MustCompile(want).MatchString(errs.String()) ||
			cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("exit code %d, want a line %s:\n%s", cmd.ProcessState.ExitCode(), want, errs)
		}
		if n := s.count(`%"kms_conn_id":"` + to + `"%`); n != done {
			t.Errorf("%d rows are sealed by the new KMS, and %d were reported", n, done)
		}
		return
	}
	t.Error("it was never interrupted")
}

// TestRotateGivesUpInAnOutage takes first the KMS and then the database away.
func TestRotateGivesUpInAnOutage(t *testing.T) {
	t.Parallel()
	const rows = 8
	s := newSealedSite(t, "sqlite", rows)
	s.succeeds("seal", "--kms", "main", "--id", "*")
	must(t, os.Rename(filepath.Join(s.home, "new.key"), filepath.Join(s.home, "gone.key")))
	code, _, errs := s.connfs("rotate", "--kms", "main", "--to", "new")
	if code == 0 {
		t.Errorf("exit code 0 without a KMS:\n%s", errs)
	}
	if n := s.count(`%"kms_conn_id":"main"%`); n != rows {
		t.Errorf("%d of %d rows are as they were", n, rows)
	}
	must(t, os.Rename(filepath.Join(s.home, "gone.key"), filepath.Join(s.home, "new.key")))

	// A writer that never ends is as good as a database that is down.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, err := s.db.Conn(ctx)
	must(t, err)
	_, err = c.ExecContext(ctx, "BEGIN IMMEDIATE")
	must(t, err)
	code, _, errs = s.connfs("rotate", "--kms", "main", "--to", "new")
	if code != 6 || !strings.Contains(errs, fmt.Sprintf("3 failed, %d not tried", rows-3)) {
		t.Errorf("exit code %d:\n%s", code, errs)
	}
	_, err = c.ExecContext(ctx, "ROLLBACK")
	must(t, err, c.Close())
	s.succeeds("rotate", "--kms", "main", "--to", "new")
}
