package dags

import (
	"fmt"
	"strconv"
)

// reader gathers what one document says.
type reader struct {
	*document
	format    int
	client    value // the run_as_user for tasks that lack one, in format 3; none: there is none
	tasks     int   // of the document so far
	users     int   // distinct ones, summed over the DAG and its SubDAGs
	templates int   // that were looked at for connections
	all       []DAG
}

// idKeys is how a DAG's id is called in each format.
var idKeys = map[int]string{1: "_dag_id", 2: "dag_id", 3: "dag_id"}

func parseDocument(doc *document, id string) ([]DAG, error) {
	const root value = 0
	if doc.kind(root) != kindObject {
		return nil, invalid(reasonNotObject)
	}
	format, _ := doc.digit(doc.get(root, "__version"))
	idKey, ok := idKeys[format]
	if !ok {
		return nil, invalid(reasonVersion)
	}
	dag := doc.get(root, "dag")
	if doc.kind(dag) != kindObject {
		return nil, invalid(reasonNoDAG)
	}
	if got, ok := doc.string(doc.get(dag, idKey)); !ok || got != id {
		return nil, invalid(reasonOtherDAG)
	}
	r := &reader{document: doc, format: format, client: none}
	if defaults := doc.get(root, "client_defaults"); format == 3 && defaults != none {
		tasks := doc.get(defaults, "tasks")
		if doc.kind(defaults) != kindObject || tasks != none && doc.kind(tasks) != kindObject {
			return nil, invalid(reasonClientDefaults)
		}
		r.client = doc.get(tasks, "run_as_user")
	}
	if err := r.dag(dag, id); err != nil {
		return nil, err
	}
	return r.all, nil
}

// dag reads a DAG and the SubDAGs inside it. What is wrong with a task costs that task;
// what is wrong with the list costs the DAG.
func (r *reader) dag(v value, id string) error {
	list := r.get(v, "tasks")
	switch r.kind(list) {
	case kindArray:
	case kindNone:
		return invalid(reasonNoTasks)
	default:
		return invalid(reasonTasksNotList)
	}
	at, d := len(r.all), DAG{ID: id, Format: r.format}
	r.all = append(r.all, d) // before its SubDAGs
	users, hints := make(map[string]bool), hints{document: r.document, ids: make(map[string]bool), budget: &r.templates}
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
		switch r.kind(what) {
		case kindNone, kindObject, kindArray: // they may hold more than a name: secrets, too
		default:
			s.Value = r.show(what)
		}
		d.Skipped = append(d.Skipped, s)
	}
	var err error
	r.items(list, func(item value) bool {
		number++
		if r.tasks++; r.tasks > maxTasks {
			err = invalid(reasonTooManyTasks)
			return false
		}
		task, name, ok := r.operator(item)
		if !ok {
			skip(none, reasonNotOperator, none)
			return true
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
			err = invalid(reasonTooManyUsers)
			return false
		}
		hints.task(task)
		if sub := r.get(task, "subdag"); r.format == 1 && sub != none {
			if reason := r.subDAG(sub, id, task); reason != "" {
				skip(name, reason, none)
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	if more > 0 {
		d.Skipped = append(d.Skipped, Skip{Reason: fmt.Sprintf("%d %s", more, reasonMoreSkipped)})
	}
	d.Users, d.Connections = sorted(users), sorted(hints.ids)
	r.all[at] = d
	return nil
}

// operator returns the object of a task's attributes and its task_id. Until Airflow 2.9
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
	if r.kind(id) != kindText {
		return none, none, false
	}
	if k := r.kind(r.get(task, "_is_mapped")); k != kindNone && k != kindTrue && k != kindFalse {
		return none, none, false
	}
	return task, id, true
}

// runAsUser returns the user of a task; unnamed where it has none; or a reason and the
// run_as_user that is wrong. The defaults of the DAG and of task groups are in the task
// already. Of a mapped task only partial() impersonates, never what it expands.
func (r *reader) runAsUser(task value) (user string, unnamed bool, reason string, what value) {
	from := task
	if r.kind(r.get(task, "_is_mapped")) == kindTrue {
		if from = r.unwrap(r.get(task, "partial_kwargs"), "dict"); from != none && r.kind(from) != kindObject {
			return "", false, reasonPartialKwargs, none
		}
	}
	what = r.get(from, "run_as_user")
	if what == none {
		what = r.client
	}
	switch r.kind(what) {
	case kindNone, kindNull:
		return "", true, "", none
	case kindText:
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

// subDAG reads a DAG inside a task. Airflow makes sure that it is called as its parent
// and the task are.
func (r *reader) subDAG(v value, parent string, task value) (reason string) {
	v = r.unwrap(v, "dag")
	if r.kind(v) != kindObject {
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
