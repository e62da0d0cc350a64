package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/commands"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/internal/session"
)

// whoMay ends the help of every command that seals.
const whoMay = `
A value is read from standard input and written to standard output; rows of the metastore
(--id, which may be given several times) are changed in place, each in a transaction of
its own, and stay as they are where anything fails. It needs what reading the connection
needs, the configuration and its keys, so it is for root or for who owns these; rows need
the right to UPDATE the table connection besides.
`

var sealCommand = command{
	name: "seal", args: "[ID]", summary: "encrypt a connection with a key of its own, which only a KMS can unwrap",
	examples: `  connfs seal --kms main billing_db < billing_db.json > sealed.json    a value, as SSM, Vault or a variable keeps it
  connfs seal --kms main --fields all billing_db < uri                 all of it: nothing stays in clear
  sudo connfs seal --kms main --id billing_db --id 'warehouse_*' --dry-run
  sudo connfs seal --kms main --id billing_db                          a row; its password and extra are sealed
` + whoMay,
	options: func(fl *flags) {
		fl.common()
		fl.sealOptions()
		fl.kmsOption("seal with this `kms`: the NAME of a [kms.NAME], or the id of its connection")
		fl.fieldsOption()
	},
	run: (*program).seal,
}

var unsealCommand = command{
	name: "unseal", args: "[ID]", summary: "decrypt a sealed connection and put it back as it was",
	examples: `  connfs unseal billing_db < sealed.json       prints the connection
  sudo connfs unseal --id billing_db           a row: encrypted with the fernet_key again, where there is one
  sudo connfs unseal --id '*' --dry-run        says what would be unsealed, and whether it opens
` + whoMay,
	options: func(fl *flags) { fl.common(); fl.sealOptions() },
	run:     (*program).seal,
}

var resealCommand = command{
	name: "reseal", args: "[ID]", summary: "seal a sealed connection anew: with a new data key, another KMS, or other fields",
	examples: `  connfs reseal billing_db < sealed.json > new.json
  sudo connfs reseal --id billing_db                        a new data key
  sudo connfs reseal --id billing_db --kms new              another KMS
  sudo connfs reseal --id billing_db --fields password,extra,login
` + whoMay,
	options: func(fl *flags) {
		fl.common()
		fl.sealOptions()
		fl.kmsOption("seal with this `kms`; default: the one that sealed it")
		fl.fieldsOption()
	},
	run: (*program).seal,
}

var rotateCommand = command{
	name: "rotate", summary: "seal anew every row of the metastore that a KMS sealed",
	examples: `  sudo connfs rotate --kms old --to new --dry-run
  sudo connfs rotate --kms old --to new                      to another KMS
  sudo connfs rotate --kms main                              what an earlier key of that KMS sealed
  sudo connfs rotate --kms main --all --pattern 'billing_*'  new data keys, whatever the key

It can be ended at any time, and started again: rows that are done are left as they are.
Each row is changed in a transaction of its own, and one that somebody else changed
meanwhile is left alone. It is for root or for who owns the configuration and its keys.
`,
	options: func(fl *flags) {
		fl.common()
		fl.jsonOption()
		fl.kmsOption("rows that this `kms` sealed")
		fl.StringVar(&fl.to, "to", "", "seal them with this `kms`; default: the same")
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
	fl.Var((*list)(&fl.ids), "id", "the row of this `id`, or rows that match this pattern")
	fl.BoolVar(&fl.dryRun, "dry-run", false, "rows: do everything but write")
}

func (fl *flags) kmsOption(usage string) { fl.StringVar(&fl.kms, "kms", "", usage) }

func (fl *flags) fieldsOption() {
	fl.StringVar(&fl.fields, "fields", "", "seal these `fields`, separated by commas, or \"all\"; the extra always is; default: password,extra")
}

// request checks the command line.
func (fl *flags) request() (*resolver.SealRequest, []string, error) {
	wrong := func(format string, args ...any) (*resolver.SealRequest, []string, error) {
		return nil, nil, &usageError{fmt.Sprintf(format, args...), fl.Name()}
	}
	req := &resolver.SealRequest{Action: fl.Name(), KMS: fl.kms, To: fl.to, All: fl.all, DryRun: fl.dryRun}
	if fl.fields != "" {
		req.Fields = strings.Split(fl.fields, ",")
	}
	if fl.kms == "" && (req.Action == resolver.ActionSeal || req.Action == resolver.ActionRotate) {
		return wrong("--kms is missing")
	}
	if req.Action == resolver.ActionRotate {
		if fl.NArg() > 0 {
			return wrong("it takes no argument, and there are %d", fl.NArg())
		}
		return req, []string{fl.pattern}, nil
	}
	switch {
	case fl.NArg() > 1:
		return wrong("it takes one connection id, and there are %d; rows are named with --id", fl.NArg())
	case fl.NArg() == 1 && len(fl.ids) > 0:
		return wrong("an ID is for a value on standard input, and --id for rows: one of the two")
	case fl.NArg() == 0 && len(fl.ids) == 0:
		return wrong("it takes the ID of a value on standard input, or --id for rows of the metastore")
	case fl.NArg() == 1 && fl.dryRun:
		return wrong("--dry-run is for rows: what is on standard input is not changed anyway")
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
			return &usageError{"standard input is a terminal, on which the value would be seen; redirect it from a file or a pipe", fl.Name()}
		}
	}
	o, err := p.options(fl)
	if err != nil {
		return err
	}
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
	err = commands.SealRows(ctx, s, *req, patterns, func(n int) { r.total = n }, r.one)
	if r.total > 0 {
		fmt.Fprintf(p.stderr, "connfs: %s\n", r.summary())
	}
	if err != nil {
		return err
	}
	return r.failure()
}

// rows prints what becomes of rows.
type rows struct {
	p            *program
	json, dryRun bool
	total, tried int
	count        map[string]int // by what was done
	warned       bool
	errs         []error
}

// progressEvery is after how many rows a line says how far the work is.
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
		fmt.Fprintf(r.p.stderr, "connfs: %s: %v\n", oneLine(row.ID), row.Err)
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
	b, _ := json.Marshal(out)
	fmt.Fprintf(r.p.stdout, "%s\n", b)
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

// failure is what the command ends with: the error of the rows, where all that failed
// failed alike, and otherwise one that has no code of its own.
func (r *rows) failure() error {
	if len(r.errs) == 0 {
		return nil
	}
	for _, err := range r.errs {
		if exitCode(err) != exitCode(r.errs[0]) {
			return &said{conn.Errorf(conn.Failed, "", "some rows failed")}
		}
	}
	return &said{r.errs[0]}
}
