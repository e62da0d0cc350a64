package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/commands"
	"github.com/connfs/connfs/internal/daemon"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/internal/session"
)

var getCommand = command{
	name: "get", args: "ID",
	summary: "print one connection, by the same policy as a mount, but without one",
	examples: `  connfs get --airflow-home ~/airflow my_db
  connfs get --format uri my_db
  sudo connfs get --uid 1234 my_db          what uid 1234 would read
`,
	options: func(fl *flags) {
		fl.common()
		fl.uidOption()
		fl.jsonOption()
		fl.StringVar(&fl.format, "format", "json",
			"json, uri, or env, which is a line for a shell to evaluate")
	},
	run: (*program).get,
}

var listCommand = command{
	name: "list", summary: "list the connections that you, or another uid, may read",
	examples: `  connfs list --airflow-home ~/airflow
  sudo connfs list --uid 1234
`,
	options: func(fl *flags) { fl.common(); fl.uidOption(); fl.jsonOption() },
	run:     (*program).list,
}

var explainCommand = command{
	name: "explain", args: "ID",
	summary: "say why a connection can or cannot be read: who asks, which rule, what backends say",
	examples: `  connfs explain --airflow-home ~/airflow my_db
  sudo connfs explain --uid 1234 my_db
  sudo connfs explain --json --uid 1234 my_db

It never shows the value. If the policy refuses, it asks no backend.
`,
	options: func(fl *flags) { fl.common(); fl.uidOption(); fl.jsonOption() },
	run:     (*program).explain,
}

// session begins a command that needs no mount and takes this number of arguments, 0 or 1. It
// returns the session, and the uid for which the command asks.
func (p *program) session(
	ctx context.Context, fl *flags, args int,
) (*session.Session, uint32, error) {
	switch {
	case args == 0 && fl.NArg() > 0:
		return nil, 0, &usageError{"it takes no argument", fl.Name()}
	case fl.NArg() != args:
		return nil, 0, &usageError{
			fmt.Sprintf("it takes one connection id, not %d", fl.NArg()), fl.Name(),
		}
	}
	uid := uint32(os.Getuid())
	if fl.uid != -1 {
		if fl.uid < 0 || fl.uid >= 1<<32-1 {
			return nil, 0, &usageError{fmt.Sprintf("--uid %d is not a uid", fl.uid), fl.Name()}
		}
		if os.Geteuid() != 0 && uint32(fl.uid) != uid {
			return nil, 0, conn.Errorf(conn.NotGranted, "", "only root may ask for another uid")
		}
		uid = uint32(fl.uid)
	}
	o, err := p.options(fl)
	if err != nil {
		return nil, 0, err
	}
	s, err := session.New(ctx, o)
	return s, uid, err
}

func (p *program) get(ctx context.Context, fl *flags) error {
	format := conn.Format(fl.format)
	switch format {
	case conn.FormatJSON, conn.FormatURI, conn.FormatEnv:
	default:
		return &usageError{
			fmt.Sprintf("--format must be json, uri or env, not %q", fl.format), fl.Name(),
		}
	}
	s, uid, err := p.session(ctx, fl, 1)
	if err != nil {
		return err
	}
	defer s.Close()
	return commands.Get(ctx, s, uid, fl.Arg(0), format, p.stdout)
}

func (p *program) list(ctx context.Context, fl *flags) error {
	s, uid, err := p.session(ctx, fl, 0)
	if err != nil {
		return err
	}
	defer s.Close()
	ids, failed, err := commands.List(ctx, s, uid)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if fl.json {
			fmt.Fprintln(p.stdout, jsonText(map[string]string{"id": id}))
		} else {
			fmt.Fprintln(p.stdout, oneLine(id))
		}
	}
	for _, f := range failed {
		fmt.Fprintf(p.stderr, "connfs: the list is not complete: %s: %s: %s\n",
			f.Backend, f.Result, oneLine(f.Reason))
	}
	if len(failed) > 0 {
		return &printed{conn.Errorf(conn.Unreachable, "", "the list is not complete")}
	}
	switch {
	case len(ids) > 0:
	case s.Policy().ReadsAnything(uid):
		fmt.Fprintf(p.stderr, "connfs: no backend has a connection that uid %d may read\n", uid)
	default:
		fmt.Fprintf(p.stderr, "connfs: no grant lets uid %d read anything\n", uid)
	}
	return nil
}

func (p *program) explain(ctx context.Context, fl *flags) error {
	s, uid, err := p.session(ctx, fl, 1)
	if err != nil {
		return err
	}
	defer s.Close()
	e, err := commands.Explain(ctx, s, uid, fl.Arg(0))
	if err != nil {
		return err
	}
	if fl.json {
		fmt.Fprintln(p.stdout, jsonText(e))
		return nil
	}
	p.printExplanation(e)
	return nil
}

func (p *program) printExplanation(e *commands.Explanation) {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	row := func(key, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", key, oneLine(fmt.Sprintf(format, args...)))
	}
	row("connection", "%s", e.ID)
	file := e.File
	if file == "" {
		file = "none: this id cannot be a file name"
	}
	row("file", "%s", file)
	row("caller", "uid %d (%s)", e.UID, e.Account)
	if e.RunAsUser != "" {
		row("run_as_user", "%s", e.RunAsUser)
	}
	if e.Allowed {
		row("policy", "allowed by %s", e.Rule)
	} else {
		row("policy", "refused: %s", e.Rule)
	}
	rows := func(key string, sentences []string) {
		for _, sentence := range sentences {
			row(key, "%s", sentence)
			key = ""
		}
	}
	rows("rules", e.Why)
	if e.Note != "" {
		row("note", "%s", e.Note)
	}
	rows("search path", e.Path)
	for _, a := range e.Answers {
		row(a.Backend, "%s [%s]", answerText(a), a.Duration.Round(10*time.Microsecond))
	}
	switch {
	case e.Unsealed != "":
		row("sealed", "refused: %s", oneLine(e.Unsealed))
	case e.Demands != "":
		row("sealed", "demanded by %s", oneLine(e.Demands))
	}
	result := "it can be read"
	if e.Errno != "" {
		result = "a reader gets " + e.Errno + ": " + e.ErrnoText
	}
	if e.Allowed {
		row("limits", "%s", e.Limits)
	}
	row("result", "%s", result)
	_ = w.Flush() // as with the other commands' text: nobody is left to tell
}

// answerText says in words what one backend answered.
func answerText(a resolver.Answer) string {
	text := a.Result
	if a.Sealed != "" {
		text += ": sealed by " + a.Sealed
	}
	for _, part := range []string{a.By, a.Reason} {
		if part != "" {
			text += ": " + part
		}
	}
	if a.Hint != "" {
		text += " (" + a.Hint + ")"
	}
	if a.Decides {
		text += "; this decides"
	}
	return text
}

// reportJSON prints an error as one JSON object on standard error.
func (p *program) reportJSON(err error) {
	out := struct {
		Kind    string `json:"kind"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
	}{Kind: "failed", Message: err.Error()}
	var (
		ce *conn.Error
		ue *usageError
		me *daemon.MountError
	)
	switch {
	case errors.As(err, &ue):
		out.Kind = "usage"
	case errors.As(err, &me):
		out.Kind, out.Message, out.Hint = "mount", me.Path+": "+me.Reason, me.Hint
	case errors.As(err, &ce):
		out.Kind, out.Message, out.Hint = ce.Kind.String(), ce.Reason, ce.Hint
		if ce.Source != "" {
			out.Message = ce.Source + ": " + ce.Reason
		}
		if commands.IsConfigurationError(ce) {
			out.Kind, out.Message = "configuration", ce.Reason
		}
	}
	fmt.Fprintln(p.stderr, jsonText(out))
}
