package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/connfs/connfs/internal/session"
)

// The variables that hold what connfs logs in with, or name the file that does. Airflow also reads
// each of its own with _CMD, for a command that prints it, and _SECRET, for its name in a store.
var (
	airflowCredentials = []string{
		"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__SQL_ALCHEMY_CONN",
		"AIRFLOW__CORE__FERNET_KEY",
		"AIRFLOW__SECRETS__BACKEND_KWARGS", "AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS",
		// Whoever can sign tokens can ask the API server for any connection.
		"AIRFLOW__API_AUTH__JWT_SECRET",
	}
	otherCredentials = []string{
		"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
		"AWS_SHARED_CREDENTIALS_FILE",
		"VAULT_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "PGPASSWORD",
	}
)

// credential reports whether whoever has the variable of this name can do without connfs.
func credential(name string) bool {
	if strings.HasPrefix(name, "AIRFLOW_CONN_") || slices.Contains(otherCredentials, name) {
		return true
	}
	for _, suffix := range []string{"", "_CMD", "_SECRET"} {
		setting, ok := strings.CutSuffix(name, suffix)
		if ok && slices.Contains(airflowCredentials, setting) {
			return true
		}
	}
	return false
}

// credentials returns the credentials in an environment, as /proc shows it, by name. It leaves out
// empty values, and what Airflow 3 gives to tasks in place of the database URL.
func credentials(environ string) map[string]string {
	found := make(map[string]string)
	for entry := range strings.SplitSeq(environ, "\x00") {
		name, value, _ := strings.Cut(entry, "=")
		if value != "" && !strings.HasPrefix(value, "airflow-db-not-allowed:") && credential(name) {
			found[name] = value
		}
	}
	return found
}

// holders are the processes of one user whose environments hold the same credentials.
type holders struct {
	names     string // of the variables
	own       bool   // with the values that connfs itself was started with
	processes []process
}

// checkEnvironments looks for credentials where tasks can read them: in the environments of tasks,
// and in own, the environment of connfs, which is also that of what started it. It names
// variables, and never shows a value.
func (r *report) checkEnvironments(proc fs.FS, tasks []process, own string) {
	const subject = "environment"
	ours := credentials(own)
	if len(ours) > 0 {
		r.warn(subject, "keep them in files that only root or the children's user can read: "+
			"url_file, fernet_key_file, [environment] file", "connfs was started with %s: what "+
			"started it has them too, and so has whoever can look into that", list(sorted(ours)))
	}
	var found []*holders
	unread := 0
	for _, p := range tasks {
		text, err := fs.ReadFile(proc, path.Join(strconv.Itoa(p.pid), "environ"))
		if errors.Is(err, fs.ErrPermission) {
			unread++
		}
		theirs := credentials(string(text))
		same := make(map[string]string)
		for name, value := range theirs {
			if ours[name] == value {
				same[name] = value
				delete(theirs, name)
			}
		}
		found = addHolder(found, p, same, true)
		found = addHolder(found, p, theirs, false)
	}
	for _, h := range found {
		if h.own {
			r.fail(subject, "take them out of the worker's environment: they are connfs's own",
				"%s: the environment of %s has the value that connfs was started with",
				h.names, first(h.processes))
		} else {
			r.warn(subject, "take them out of the worker's environment; if they must stay there, "+
				"seal the connections that they open, or keep those in a store that only connfs "+
				"can reach", "%s: in the environment of %s, whose tasks can use it without asking "+
				"connfs", h.names, first(h.processes))
		}
	}
	if unread > 0 {
		r.warn(subject, "root can, where nothing limits its capabilities",
			"the environments of %d of the %d processes of readers and workers cannot be read",
			unread, len(tasks))
	} else if len(found) == 0 {
		r.ok(subject, "no credential of connfs in the environment of any reader or worker that "+
			"runs now (%d of them)", len(tasks))
	}
}

// addHolder adds p to the processes of its user that hold the same variables.
func addHolder(all []*holders, p process, variables map[string]string, own bool) []*holders {
	if len(variables) == 0 {
		return all
	}
	names := list(sorted(variables))
	for _, h := range all {
		if h.names == names && h.own == own && h.processes[0].uid == p.uid {
			h.processes = append(h.processes, p)
			return all
		}
	}
	return append(all, &holders{names, own, []process{p}})
}

func sorted(variables map[string]string) []string {
	return slices.Sorted(maps.Keys(variables))
}

// list joins names with commas. A process can choose any name, so names with unusual bytes are
// quoted.
func list(names []string) string {
	for i, name := range names {
		if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
			names[i] = quoted
		}
	}
	return session.JoinNames(names)
}

// first names the first process, and how many more there are.
func first(p []process) string {
	if len(p) == 1 {
		return p[0].String()
	}
	return fmt.Sprintf("%s and %d more", p[0].String(), len(p)-1)
}
