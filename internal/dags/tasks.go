package dags

import (
	"fmt"
	"strconv"

	"github.com/connfs/connfs/internal/python"
)

// reader collects what one document says.
type reader struct {
	*document
	format    int
	client    value // in format 3: the run_as_user of tasks without one, or none
	tasks     int   // of the document so far
	users     int   // distinct ones, summed over the DAG and its SubDAGs
	templates int   // that were searched for connections
	all       []DAG
}

// idKeys is the key of a DAG's id in each format.
var idKeys = map[int]string{1: "_dag_id", 2: "dag_id", 3: "dag_id"}

func parseDocument(doc *document, id string) ([]DAG, error) {
	const root value = 0
	if doc.Kind(root) != python.KindObject {
		return nil, invalid(reasonNotObject)
	}
	format, _ := doc.digit(doc.get(root, "__version"))
	idKey, ok := idKeys[format]
	if !ok {
		return nil, invalid(reasonVersion)
	}
	dag := doc.get(root, "dag")
	if doc.Kind(dag) != python.KindObject {
		return nil, invalid(reasonNoDAG)
	}
	if got, ok := doc.string(doc.get(dag, idKey)); !ok || got != id {
		return nil, invalid(reasonOtherDAG)
	}
	r := &reader{document: doc, format: format, client: none}
	if defaults := doc.get(root, "client_defaults"); format == 3 && defaults != none {
		tasks := doc.get(defaults, "tasks")
		if doc.Kind(defaults) != python.KindObject ||
			tasks != none && doc.Kind(tasks) != python.KindObject {
			return nil, invalid(reasonClientDefaults)
		}
		r.client = doc.get(tasks, "run_as_user")
	}
	if err := r.dag(dag, id); err != nil {
		return nil, err
	}
	return r.all, nil
}

// dag reads a DAG and the SubDAGs inside it. An error in a task is about that task alone; an
// error in the list of tasks is about the whole DAG.
func (r *reader) dag(v value, id string) error {
	list := r.get(v, "tasks")
	switch r.Kind(list) {
	case python.KindArray:
	case python.KindNone:
		return invalid(reasonNoTasks)
	default:
		return invalid(reasonTasksNotList)
	}
	at, d := len(r.all), DAG{ID: id, Format: r.format}
	r.all = append(r.all, d) // before its SubDAGs
	users := make(map[string]bool)
	hints := hints{document: r.document, ids: make(map[string]bool), searched: &r.templates}
	hints.named(r.unwrap(r.get(v, "default_args"), "dict"))
	number, more := 0, 0
	skip := func(id value, reason string, what value) {
		if len(d.Skipped) >= maxSkips {
			more++
			return
		}
		s := Skip{Task: "#" + strconv.Itoa(number), Reason: reason}
		if id != none {
			s.Task = r.show(id)
		}
		switch r.Kind(what) {
		case python.KindNone, python.KindObject, python.KindArray:
			// An object or array may hold more than a name: secrets, too.
		default:
			s.Value = r.show(what)
		}
		d.Skipped = append(d.Skipped, s)
	}
	for item := range r.Items(list) {
		number++
		if r.tasks++; r.tasks > maxTasks {
			return invalid(reasonTooManyTasks)
		}
		task, name, ok := r.operator(item)
		if !ok {
			skip(none, reasonNotOperator, none)
			continue
		}
		user, unnamed, reason, what := r.runAsUser(task)
		switch {
		case reason != "":
			skip(name, reason, what)
		case unnamed:
			d.Unnamed = true
		case !users[user]:
			users[user] = true
			r.users++
		}
		if r.users > maxUsers {
			return invalid(reasonTooManyUsers)
		}
		hints.task(task)
		if sub := r.get(task, "subdag"); r.format == 1 && sub != none {
			if reason := r.subDAG(sub, id, task); reason != "" {
				skip(name, reason, none)
			}
		}
	}
	if more > 0 {
		d.Skipped = append(d.Skipped, Skip{Reason: fmt.Sprintf("%d %s", more, reasonMoreSkipped)})
	}
	d.Users, d.Connections = sorted(users), sorted(hints.ids)
	r.all[at] = d
	return nil
}

// operator returns the object with a task's attributes, and its task_id. Until Airflow 2.9
// that object is the item itself.
func (r *reader) operator(item value) (task, id value, ok bool) {
	task = item
	if t := r.get(item, "__type"); t != none {
		if s, ok := r.string(t); !ok || s != "operator" {
			return none, none, false
		}
		task = r.get(item, "__var")
	}
	id = r.get(task, "task_id")
	if r.Kind(id) != python.KindText {
		return none, none, false
	}
	switch r.Kind(r.get(task, "_is_mapped")) {
	case python.KindNone, python.KindTrue, python.KindFalse:
	default:
		return none, none, false
	}
	return task, id, true
}

// runAsUser returns the user of a task; or true for unnamed if the task names no user; or
// what is wrong with its run_as_user, for the reason. The task already includes the
// defaults of the DAG and of task groups. The user of a mapped task can only come from
// partial(), never from what it expands.
func (r *reader) runAsUser(task value) (user string, unnamed bool, reason string, what value) {
	from := task
	if r.Kind(r.get(task, "_is_mapped")) == python.KindTrue {
		from = r.unwrap(r.get(task, "partial_kwargs"), "dict")
		if from != none && r.Kind(from) != python.KindObject {
			return "", false, reasonPartialKwargs, none
		}
	}
	what = r.get(from, "run_as_user")
	if what == none {
		what = r.client
	}
	switch r.Kind(what) {
	case python.KindNone, python.KindNull:
		return "", true, "", none
	case python.KindText:
	default:
		return "", false, reasonUserNotText, what
	}
	name, ok := r.string(what)
	if !ok {
		return "", false, reasonNotUser, what
	}
	if name == "" {
		return "", true, "", none
	}
	user, reason = CheckUser(name)
	return user, false, reason, what
}

// subDAG reads a DAG inside a task. Airflow makes sure that its id is made of those of its
// parent and the task.
func (r *reader) subDAG(v value, parent string, task value) (reason string) {
	v = r.unwrap(v, "dag")
	if r.Kind(v) != python.KindObject {
		return reasonNotSubDAG
	}
	name, _ := r.string(r.get(task, "task_id"))
	id, ok := r.string(r.get(v, "_dag_id"))
	if !ok || id != parent+"."+name || !validID(id) {
		return reasonOtherSubDAG
	}
	at, users := len(r.all), r.users
	if err := r.dag(v, id); err != nil {
		r.all, r.users = r.all[:at], users
		return reasonOf(err)
	}
	return ""
}
