package main

import (
	"context"
	"fmt"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/doctor"
	"github.com/connfs/connfs/internal/session"
)

var configCommand = command{
	name: "config", summary: "show every effective setting and where it comes from",
	examples: `  connfs config --airflow-home ~/airflow
  sudo connfs config --show-secrets --json
`,
	options: func(fl *flags) {
		fl.common()
		fl.jsonOption()
		fl.BoolVar(&fl.showSecrets, "show-secrets", false, "show passwords and keys too")
	},
	run: (*program).config,
}

func (p *program) config(ctx context.Context, fl *flags) error {
	if fl.NArg() > 0 {
		return &usageError{"it takes no argument", fl.Name()}
	}
	o, err := p.options(fl)
	if err != nil {
		return err
	}
	return session.ShowSettings(ctx, o, p.stdout, fl.showSecrets, fl.json)
}

var checkCommand = command{
	name: "check", summary: "examine configuration, users, backends and this machine",
	examples: `  sudo connfs check
  connfs check --airflow-home ~/airflow
`,
	options: func(fl *flags) { fl.common(); fl.jsonOption() },
	run:     (*program).check,
}

func (p *program) check(ctx context.Context, fl *flags) error {
	if fl.NArg() > 0 {
		return &usageError{"it takes no argument", fl.Name()}
	}
	o, err := p.options(fl)
	if err != nil {
		return err
	}
	findings := doctor.Check(ctx, o)
	failed := false
	for _, f := range findings {
		failed = failed || f.Level == "fail"
		if fl.json {
			fmt.Fprintln(p.stdout, jsonText(f))
			continue
		}
		line := fmt.Sprintf("%-5s %s: %s", f.Level, f.Subject, f.Message)
		if f.Hint != "" {
			line += " (" + f.Hint + ")"
		}
		fmt.Fprintln(p.stdout, oneLine(line))
	}
	if failed {
		return &printed{conn.Errorf(conn.Failed, "", "something is wrong")}
	}
	return nil
}
