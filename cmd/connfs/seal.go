package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/commands"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/internal/session"
)

// sealHelp ends the help of every command that seals or unseals.
const sealHelp = `
With an ID it reads a value from standard input and writes the new one to standard output. With
--id it changes rows of the metastore, each in a transaction of its own; a row where anything
fails stays as it is. It needs the configuration and its keys, so it is for root or for who owns
these. For rows, the database role must also have the right to UPDATE the table connection.
`

var sealCommand = command{
	name: "seal", args: "[ID]",
	summary: "encrypt a connection with a key of its own, which only a KMS can unwrap",
	examples: `  connfs seal --kms main billing_db < billing_db.json > sealed.json
        a value, for SSM, Vault or a variable
  connfs seal --kms main --fields all billing_db < billing_db.uri > sealed.json
        the whole value: nothing stays in clear
  sudo connfs seal --kms main --id billing_db
        a row: its password and its extra
  sudo connfs seal --kms main --id billing_db --id 'warehouse_*' --dry-run
        rows: what would be sealed
` + sealHelp,
	options: func(fl *flags) {
		fl.common()
		fl.sealOptions()
		fl.kmsOption("seal with this `kms`: the NAME of a [kms.NAME], or the id of its connection")
		fl.fieldsOption()
	},
	run: (*program).seal,
}

var unsealCommand = command{
	name: "unseal", args: "[ID]",
	summary: "decrypt a sealed connection and put it back as it was",
	examples: `  connfs unseal billing_db < sealed.json     prints the connection
  sudo connfs unseal --id billing_db         a row; encrypts it with the fernet_key, if there is one
  sudo connfs unseal --id '*' --dry-run      says which rows would be unsealed and which do not open
` + sealHelp,
	options: func(fl *flags) { fl.common(); fl.sealOptions() },
	run:     (*program).seal,
}

var resealCommand = command{
	name: "reseal", args: "[ID]",
	summary: "seal a sealed connection again: with a new data key, another KMS or other fields",
	examples: `  connfs reseal billing_db < sealed.json > new.json
  sudo connfs reseal --id billing_db                          a new data key
  sudo connfs reseal --id billing_db --kms new                another KMS
  sudo connfs reseal --id billing_db --fields password,extra,login
` + sealHelp,
	options: func(fl *flags) {
		fl.common()
		fl.sealOptions()
		fl.kmsOption("seal with this `kms` (default: the one that sealed it)")
		fl.fieldsOption()
	},
	run: (*program).seal,
}

var rotateCommand = command{
	name:    "rotate",
	summary: "reseal the rows of the metastore that a KMS sealed, with its new key or another KMS",
	examples: `  sudo connfs rotate --kms old --to new --dry-run
  sudo connfs rotate --kms old --to new                      to another KMS
  sudo connfs rotate --kms main                              what earlier keys of that KMS sealed
  sudo connfs rotate --kms main --all --pattern 'billing_*'  whatever key sealed it

It can be stopped at any time and started again: rows that are done stay as they are. Each row is
changed in a transaction of its own, and a row that somebody else changes meanwhile is left alone.
It is for root, or for who owns the configuration and its keys.
`,
	options: func(fl *flags) {
		fl.common()
		fl.jsonOption()
		fl.kmsOption("reseal the rows that this `kms` sealed")
		fl.StringVar(&fl.to, "to", "", "seal them with this `kms` (default: the same)")
		fl.StringVar(&fl.pattern, "pattern", "*", "only rows whose id matches this `pattern`")
		fl.BoolVar(&fl.all, "all", false, "also rows that the present key of the KMS sealed")
		fl.BoolVar(&fl.dryRun, "dry-run", false, "do everything but write")
	},
	run: (*program).seal,
}

// list is an option that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ", ") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

func (fl *flags) sealOptions() {
	fl.jsonOption()
	fl.Var((*list)(&fl.ids), "id", "the `id` of a row, or a pattern; may be given several times")
	fl.BoolVar(&fl.dryRun, "dry-run", false, "for rows: do everything but write")
}

func (fl *flags) kmsOption(usage string) { fl.StringVar(&fl.kms, "kms", "", usage) }

func (fl *flags) fieldsOption() {
	fl.StringVar(&fl.fields, "fields", "",
		"seal these `fields` and the extra, or \"all\" (default: password,extra)")
}

// request returns what the command line asks for. patterns name the rows of the metastore; they are
// nil for a value on standard input.
func (fl *flags) request() (req *resolver.SealRequest, patterns []string, err error) {
	wrong := func(format string, args ...any) (*resolver.SealRequest, []string, error) {
		return nil, nil, &usageError{fmt.Sprintf(format, args...), fl.Name()}
	}
	req = &resolver.SealRequest{
		Action: fl.Name(), KMS: fl.kms, To: fl.to, All: fl.all, DryRun: fl.dryRun,
	}
	if fl.fields != "" {
		req.Fields = strings.Split(fl.fields, ",")
	}
	if fl.kms == "" && (req.Action == resolver.ActionSeal || req.Action == resolver.ActionRotate) {
		return wrong("--kms is missing")
	}
	if req.Action == resolver.ActionRotate {
		if fl.NArg() > 0 {
			return wrong("it takes no argument")
		}
		return req, []string{fl.pattern}, nil
	}
	switch {
	case fl.NArg() > 1:
		return wrong("it takes one connection id, not %d; name rows with --id", fl.NArg())
	case fl.NArg() == 1 && len(fl.ids) > 0:
		return wrong("use either an ID, for a value on standard input, or --id, for rows")
	case fl.NArg() == 0 && len(fl.ids) == 0:
		return wrong("it takes the ID of a value on standard input, or --id for rows of the " +
			"metastore")
	case fl.NArg() == 1 && fl.dryRun:
		return wrong("--dry-run is for rows: a value on standard input is never changed")
	case fl.NArg() == 1:
		req.ID = fl.Arg(0)
	}
	return req, fl.ids, nil
}

func (p *program) seal(ctx context.Context, fl *flags) error {
	req, patterns, err := fl.request()
	if err != nil {
		return err
	}
	if f, ok := p.stdin.(*os.File); ok && patterns == nil {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			return &usageError{"standard input is a terminal, which would show the value: " +
				"redirect it from a file or a pipe", fl.Name()}
		}
	}
	o, err := p.options(fl)
	if err != nil {
		return err
	}
	o.Rewrites = patterns != nil && !fl.dryRun
	s, err := session.New(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	if patterns == nil {
		done, err := commands.SealValue(ctx, s, req, p.stdin, p.stdout)
		if err == nil && done.Done == "unchanged" {
			fmt.Fprintf(p.stderr, "connfs: %s: unchanged: %s\n", oneLine(req.ID), done.Note)
		}
		return err
	}
	r := &rows{p: p, json: fl.json, dryRun: fl.dryRun, count: make(map[string]int)}
	// The first signal ends it after the row that it is at, and the second at once.
	ctx, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	err = commands.SealRows(ctx, s, *req, patterns, func(n int) { r.total = n }, r.one)
	if r.total > 0 {
		fmt.Fprintf(p.stderr, "connfs: %s\n", r.summary())
	} else if err == nil {
		fmt.Fprintf(p.stderr, "connfs: KMS %s sealed no row whose id matches %q\n",
			oneLine(req.KMS), patterns[0])
	}
	if err != nil {
		return err
	}
	return r.failure()
}

// rows prints what became of each row, and counts.
type rows struct {
	p            *program
	json, dryRun bool
	total, tried int
	count        map[string]int // of rows, by what was done with them
	warned       bool           // about what unsealing leaves in clear
	errs         []error
}

// progressEvery is after how many rows a line says how many are done.
const progressEvery = 100

func (r *rows) one(row commands.SealedRow) {
	r.tried++
	if row.Err != nil {
		r.count["failed"]++
		r.errs = append(r.errs, row.Err)
	} else {
		r.count[row.Done]++
	}
	switch {
	case r.json:
		r.asJSON(row)
	case row.Err != nil:
		fmt.Fprintf(r.p.stderr, "connfs: %s: %s\n", oneLine(row.ID), oneLine(row.Err.Error()))
	default:
		done := row.Done
		if r.dryRun && done != "unchanged" {
			done = "would be " + done
		}
		if row.Note != "" {
			done += ": " + oneLine(row.Note)
		}
		fmt.Fprintf(r.p.stdout, "%s: %s\n", oneLine(row.ID), done)
	}
	if row.Err == nil && row.Done == "unsealed" && row.Note != "" && !r.warned {
		r.warned = true
		fmt.Fprintf(r.p.stderr, "connfs: warning: unsealed %s\n", row.Note)
	}
	if r.tried%progressEvery == 0 && r.tried < r.total {
		fmt.Fprintf(r.p.stderr, "connfs: %d of %d rows\n", r.tried, r.total)
	}
}

func (r *rows) asJSON(row commands.SealedRow) {
	out := struct {
		ID      string `json:"id"`
		Done    string `json:"done"`
		Note    string `json:"note,omitempty"`
		DryRun  bool   `json:"dry_run"`
		Kind    string `json:"kind,omitempty"`
		Message string `json:"message,omitempty"`
		Hint    string `json:"hint,omitempty"`
	}{ID: row.ID, Done: row.Done, Note: row.Note, DryRun: r.dryRun}
	if row.Err != nil {
		out.Done, out.Kind, out.Message = "failed", conn.KindOf(row.Err).String(), row.Err.Error()
		var ce *conn.Error
		if errors.As(row.Err, &ce) {
			out.Message, out.Hint = ce.Reason, ce.Hint
		}
	}
	fmt.Fprintln(r.p.stdout, jsonText(out))
}

func (r *rows) summary() string {
	var parts []string
	for _, done := range []string{"sealed", "unsealed", "resealed", "unchanged", "failed"} {
		if n := r.count[done]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, done))
		}
	}
	text := strings.Join(parts, ", ")
	if r.tried < r.total {
		text += fmt.Sprintf(", %d not tried", r.total-r.tried)
	}
	if r.dryRun {
		text += "; nothing was written"
	}
	return text
}

// failure returns the error that the command ends with. If all rows that failed have the same exit
// code, the command has it too.
func (r *rows) failure() error {
	if len(r.errs) == 0 {
		return nil
	}
	for _, err := range r.errs {
		if exitCode(err) != exitCode(r.errs[0]) {
			return &printed{conn.Errorf(conn.Failed, "", "some rows failed")}
		}
	}
	return &printed{r.errs[0]}
}
