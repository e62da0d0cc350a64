package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/commands"
)

var grantsCommand = command{
	name: "grants", summary: "list who may read what, and by which rule",
	examples: `  sudo connfs grants
  sudo connfs grants --id billing_db       who may read it
  sudo connfs grants --uid 1234 --json     what uid 1234 may read
  sudo connfs grants --suggest             [[grant]] blocks from what the serialized DAGs show
`,
	options: func(fl *flags) {
		fl.common()
		fl.uidOption()
		fl.jsonOption()
		fl.StringVar(&fl.id, "id", "", "only grants of this connection `id`")
		fl.BoolVar(&fl.suggest, "suggest", false, "print [[grant]] blocks to start from")
	},
	run: (*program).grants,
}

func (p *program) grants(ctx context.Context, fl *flags) error {
	if fl.suggest && (fl.uid != -1 || fl.id != "" || fl.json) {
		return &usageError{"--suggest cannot be combined with --uid, --id or --json", fl.Name()}
	}
	s, uid, err := p.session(ctx, fl, 0)
	if err != nil {
		return err
	}
	defer s.Close()
	if fl.suggest {
		return commands.Suggest(ctx, s, p.stdout)
	}
	// An ordinary user is told about that user alone.
	only := &uid
	if os.Geteuid() == 0 && fl.uid == -1 {
		only = nil
	}
	granted, never := commands.Grants(s, only, fl.id)
	for _, g := range never {
		fmt.Fprintf(p.stderr,
			"connfs: warning: DAG %s names %s (uid %d), to whom no DAG can grant anything\n",
			oneLine(g.DAG), oneLine(g.RunAsUser), *g.UID)
	}
	if fl.json {
		for _, g := range granted {
			fmt.Fprintln(p.stdout, jsonText(g))
		}
		return nil
	}
	if s.Front.OwnerOnly != nil {
		fmt.Fprintf(p.stdout, "uid %d, who started connfs, may read everything, "+
			"and nobody else may read anything\n", *s.Front.OwnerOnly)
		return nil
	}
	if len(granted) == 0 {
		none := conn.Errorf(conn.Absent, "", "%s", noGrant(only, fl.id))
		fmt.Fprintf(p.stderr, "connfs: %s\n", none.Reason)
		return &printed{none}
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "USER\tUID\tCONNECTIONS\tSEALED\tDAG\tFROM\tRULE")
	for _, g := range granted {
		uid := "unknown"
		if g.UID != nil {
			uid = strconv.FormatUint(uint64(*g.UID), 10)
		}
		sealed := "-"
		if g.Sealed {
			sealed = "demanded"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", oneLine(g.RunAsUser), uid,
			oneLine(strings.Join(g.Connections, " ")), sealed, oneLine(g.DAG), g.From,
			oneLine(g.Rule))
	}
	return w.Flush()
}

// noGrant says which grants there are none of.
func noGrant(uid *uint32, id string) string {
	text := "there is no grant"
	if uid != nil {
		text += fmt.Sprintf(" for uid %d", *uid)
	}
	if id != "" {
		text += fmt.Sprintf(" of the connection %q", id)
	}
	return text
}
