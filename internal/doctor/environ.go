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

// Variables that hold what connfs logs in with, or name where it lies. Airflow reads each
// of its own also with _CMD, a command that prints it, and _SECRET, its name in a store.
var (
	airflowCredentials = []string{
		"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__FERNET_KEY",
		"AIRFLOW__SECRETS__BACKEND_KWARGS", "AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS",
		// Whoever can sign tokens asks the API server for any connection.
		"AIRFLOW__API_AUTH__JWT_SECRET",
	}
	otherCredentials = []string{
		"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_SHARED_CREDENTIALS_FILE",
		"VAULT_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "PGPASSWORD",
	}
)

// credential reports whether the variable of this name can let its holder around connfs.
func credential(name string) bool {
	if strings.HasPrefix(name, "AIRFLOW_CONN_") || slices.Contains(otherCredentials, name) {
		return true
	}
	for _, suffix := range []string{"", "_CMD", "_SECRET"} {
		if setting, ok := strings.CutSuffix(name, suffix); ok && slices.Contains(airflowCredentials, setting) {
			return true
		}
	}
	return false
}

// credentials returns those of an environment, as /proc shows it, by name. What says
// nothing is left out: an empty value, and what Airflow 3 gives tasks as database URL.
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

// holders are the processes of one user whose environments hold the same variables.
type holders struct {
	names     string
	own       bool // with values that connfs itself was started with
	processes []process
}

// checkEnvironments looks for credentials of connfs where tasks can read them: in the
// environment of the processes under proc, and in connfs's own, which what started it has
// as well. It names variables, and never shows a value.
func checkEnvironments(proc fs.FS, tasks []process, own string, add addFinding) {
	const subject = "environment"
	ours := credentials(own)
	if len(ours) > 0 {
		add("warn", subject, "keep them in files that root or the children's user alone can read: url_file, fernet_key_file, [environment] file",
			"connfs was started with %s: what started it, and who may look into that, has the same", list(sorted(ours)))
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
		found = hold(found, p, same, true)
		found = hold(found, p, theirs, false)
	}
	for _, h := range found {
		if h.own {
			add("fail", subject, "take them out of the worker's environment: they are connfs's own",
				"%s: the same value that connfs was started with lies in the environment of %s", h.names, first(h.processes))
		} else {
			add("warn", subject, "take them out of the worker's environment; what must stay there protects nothing, so seal such connections or keep them in a store that only connfs can reach",
				"%s: in the environment of %s, whose tasks can use it without asking connfs", h.names, first(h.processes))
		}
	}
	if unread > 0 {
		add("warn", subject, "root without limits of its own can", "the environments of %d of the %d processes of readers and workers cannot be read", unread, len(tasks))
	} else if len(found) == 0 {
		add("ok", subject, "", "no credential of connfs in the environment of any reader or worker that runs now (%d of them)", len(tasks))
	}
}

// hold adds p to those of its user that hold the same variables.
func hold(all []*holders, p process, variables map[string]string, own bool) []*holders {
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

// list joins names that any process chose for itself, or the first of them.
func list(names []string) string {
	for i, name := range names {
		if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
			names[i] = quoted
		}
	}
	return session.Some(names)
}

// first names the first process, and how many more there are.
func first(p []process) string {
	if len(p) == 1 {
		return p[0].String()
	}
	return fmt.Sprintf("%s and %d more", p[0].String(), len(p)-1)
}
