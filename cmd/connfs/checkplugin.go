package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/exec/exectest"
)

var checkPluginCommand = command{
	name: "check-plugin", args: "-- COMMAND...",
	summary: "try a program of your own as an exec plugin",
	examples: `  connfs check-plugin -- /usr/local/libexec/our-store
  connfs check-plugin --id billing_db --env STORE=https://store.example -- /opt/store
`,
	options: func(fl *flags) {
		fl.jsonOption()
		fl.Var((*list)(&fl.ids), "id",
			"an `id` that the program must find; may be given several times")
		fl.Func("env", "a variable for the program, `NAME=VALUE`; may be given several times",
			fl.setEnv)
	},
	run: (*program).checkPlugin,
}

// setEnv takes one --env.
func (fl *flags) setEnv(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return fmt.Errorf("expected NAME=VALUE")
	}
	if fl.env == nil {
		fl.env = make(map[string]string)
	}
	fl.env[name] = value
	return nil
}

func (p *program) checkPlugin(ctx context.Context, fl *flags) error {
	if fl.NArg() == 0 {
		return &usageError{"it takes the command of a program", fl.Name()}
	}
	results, err := exectest.Run(ctx, fl.Args(), fl.env, fl.ids)
	if err != nil {
		return &usageError{err.Error(), fl.Name()}
	}
	failed := false
	for _, r := range results {
		level, message := "ok", r.Note
		if r.Err != nil {
			level, message, failed = "fail", r.Err.Error(), true
		}
		if fl.json {
			b, _ := json.Marshal(map[string]string{
				"level": level, "subject": r.Name, "message": message,
			})
			fmt.Fprintf(p.stdout, "%s\n", b)
			continue
		}
		if message != "" {
			message = ": " + message
		}
		fmt.Fprintf(p.stdout, "%-5s %s%s\n", level, r.Name, message)
	}
	if failed {
		return &printed{conn.Errorf(conn.Failed, "", "something is wrong")}
	}
	return nil
}
