// Command connfs mounts a filesystem in which every connection of Apache Airflow is a read-only
// file, for the users who may read it and for nobody else.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/commands"
	"github.com/connfs/connfs/internal/daemon"
	"github.com/connfs/connfs/internal/harden"
	"github.com/connfs/connfs/internal/session"
	"github.com/connfs/connfs/internal/spelling"
)

// Exit codes. They are documented in docs/exit-codes.md and do not change.
const (
	exitOK          = 0
	exitFailed      = 1 // everything that has no code of its own
	exitUsage       = 2 // the command line is wrong
	exitConfig      = 3 // the configuration is wrong
	exitNotGranted  = 4 // the policy or a backend refuses
	exitAbsent      = 5 // no backend has the connection
	exitUnreachable = 6 // a backend is down, or did not answer in time
	exitUnreadable  = 7 // what is stored cannot be decrypted, or is not a connection
	exitMount       = 8 // the mountpoint is wrong, or mounting failed
)

// program is one run of the binary.
type program struct {
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
	// flush waits for what stderr has yet to write; nil: stderr writes at once.
	flush func()
}

// command is one row of the command table.
type command struct {
	name     string
	args     string // the arguments after the options, as its help shows them
	summary  string
	examples string // and notes, as its help shows them
	run      func(p *program, ctx context.Context, fl *flags) error
	options  func(*flags)
}

var commandTable = []command{
	mountCommand, getCommand, listCommand, explainCommand, grantsCommand, configCommand,
	checkCommand, checkPluginCommand, sealCommand, unsealCommand, resealCommand, rotateCommand,
	keygenCommand, versionCommand,
}

func main() {
	// This comes first, in a resolver child too, because exec has undone it.
	if err := harden.Process(); err != nil {
		fmt.Fprintln(os.Stderr, "connfs:", err)
		os.Exit(exitFailed)
	}
	p := &program{args: os.Args[1:], stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(p.run(context.Background()))
}

// flags are the options of all commands. A command sets those that it has.
type flags struct {
	*flag.FlagSet
	config, airflowHome string
	json                bool

	uid         int64 // -1: the caller's own
	id          string
	ids         []string
	format      string
	showSecrets bool
	suggest     bool
	env         map[string]string

	kms, to, pattern, fields string
	dryRun, all              bool
}

func (p *program) run(ctx context.Context) int {
	if len(p.args) == 0 {
		p.usage(p.stderr)
		return exitUsage
	}
	name, args := p.args[0], p.args[1:]
	switch name {
	case session.ResolverCommand:
		return p.resolver()
	case daemon.AskCommand:
		if len(args) == 1 {
			return daemon.Ask(args[0])
		}
	case "help", "-h", "-help", "--help":
		if len(args) == 0 {
			p.usage(p.stdout)
			return exitOK
		}
		c := find(args[0])
		if c == nil {
			return p.noCommand(args[0])
		}
		p.help(p.stdout, c)
		return exitOK
	case "--version", "-version":
		name = "version"
	}
	c := find(name)
	if c == nil {
		return p.noCommand(name)
	}
	fl := newFlags(c)
	fl.SetOutput(io.Discard)
	if err := fl.parse(args); errors.Is(err, flag.ErrHelp) {
		p.help(p.stdout, c)
		return exitOK
	} else if err != nil {
		return p.report(fl, &usageError{err.Error(), c.name})
	}
	code := p.report(fl, c.run(p, ctx, fl))
	if p.flush != nil {
		p.flush()
	}
	return code
}

// noCommand says that there is no command of that name.
func (p *program) noCommand(name string) int {
	var names []string
	for _, c := range commandTable {
		names = append(names, c.name)
	}
	question := spelling.DidYouMean(name, names)
	if question != "" {
		question = " " + question
	}
	fmt.Fprintf(p.stderr, "connfs: there is no command %q;%s \"connfs help\" lists them\n", name,
		question)
	return exitUsage
}

func find(name string) *command {
	for i := range commandTable {
		if commandTable[i].name == name {
			return &commandTable[i]
		}
	}
	return nil
}

func newFlags(c *command) *flags {
	fl := &flags{FlagSet: flag.NewFlagSet(c.name, flag.ContinueOnError)}
	if c.options != nil {
		c.options(fl)
	}
	return fl
}

// parse takes options before and after the arguments. Everything after "--" is an argument.
func (fl *flags) parse(args []string) error {
	var arguments []string
	for len(args) > 0 {
		before := len(args)
		if err := fl.Parse(args); err != nil {
			return cmp.Or(fl.unknown(args), err)
		}
		rest := fl.Args()
		if len(rest) > 0 && before > len(rest) && args[before-len(rest)-1] == "--" {
			arguments = append(arguments, rest...)
			break
		}
		if len(rest) == 0 {
			break
		}
		arguments, args = append(arguments, rest[0]), rest[1:]
	}
	return fl.Parse(append([]string{"--"}, arguments...))
}

// unknown returns the error of the first option that the command does not have; nil where it has
// all of them.
func (fl *flags) unknown(args []string) error {
	for _, arg := range args {
		name, isOption := strings.CutPrefix(arg, "-")
		name, _, _ = strings.Cut(strings.TrimPrefix(name, "-"), "=")
		// "-1" is the value of another option, and "-h" asks for help.
		if !isOption || name == "" || name[0] < 'A' || name == "h" || name == "help" ||
			fl.Lookup(name) != nil {
			continue
		}
		var names []string
		fl.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
		text := fmt.Sprintf("there is no option --%s", name)
		if nearest, alike := spelling.Nearest(name, names); alike {
			text += fmt.Sprintf("; did you mean --%s?", nearest)
		}
		return errors.New(text)
	}
	return nil
}

// common adds the options of every command that reads the configuration.
func (fl *flags) common() {
	fl.StringVar(&fl.config, "config", "",
		"configuration `file` (default: $CONNFS_CONFIG, an ordinary user's "+
			"~/.config/connfs/config.toml, /etc/connfs/config.toml)")
	fl.StringVar(&fl.airflowHome, "airflow-home", "",
		"take what the configuration does not set from the Airflow in this `directory`")
}

func (fl *flags) jsonOption() { fl.BoolVar(&fl.json, "json", false, "print JSON") }

func (fl *flags) uidOption() {
	fl.Int64Var(&fl.uid, "uid", -1, "ask for this `uid` instead of your own (only root may)")
}

func (p *program) usage(w io.Writer) {
	fmt.Fprint(w, "connfs serves Apache Airflow's connections as files that only their users can "+
		"read.\n\nUsage: connfs COMMAND [options] [arguments]\n\n")
	for _, c := range commandTable {
		fmt.Fprintf(w, "  %-12s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\n\"connfs COMMAND --help\" shows a command's options and examples.\n")
}

func (p *program) help(w io.Writer, c *command) {
	line := "connfs " + c.name
	fl := newFlags(c)
	options := false
	fl.VisitAll(func(*flag.Flag) { options = true })
	if options {
		line += " [options]"
	}
	if c.args != "" {
		line += " " + c.args
	}
	fmt.Fprintf(w, "%s\n\nUsage: %s\n", strings.ToUpper(c.summary[:1])+c.summary[1:]+".", line)
	if options {
		fmt.Fprintln(w, "\nOptions:")
		fl.VisitAll(func(f *flag.Flag) {
			arg, usage := flag.UnquoteUsage(f)
			if arg != "" {
				arg = " " + strings.ToUpper(arg)
			}
			fmt.Fprintf(w, "  --%-22s %s\n", f.Name+arg, usage)
		})
	}
	fmt.Fprintf(w, "\nExamples:\n%s", c.examples)
}

// usageError says what is wrong with the command line of a command.
type usageError struct{ message, command string }

func (e *usageError) Error() string { return e.message }

// report prints err, as JSON if the options say so, and returns the exit code.
func (p *program) report(fl *flags, err error) int {
	if err == nil {
		return exitOK
	}
	code := exitCode(err)
	var ue *usageError
	switch {
	case errors.Is(err, errPrinted):
	case fl.json:
		p.reportJSON(err)
	case errors.As(err, &ue):
		fmt.Fprintf(p.stderr, "connfs %s: %s; see \"connfs %s --help\"\n",
			ue.command, oneLine(ue.message), ue.command)
	case code == exitConfig:
		var ce *conn.Error
		errors.As(err, &ce)
		for line := range strings.Lines(ce.Reason) { // each names the file, the line and the key
			fmt.Fprintln(p.stderr, oneLine(strings.TrimSuffix(line, "\n")))
		}
	default:
		fmt.Fprintf(p.stderr, "connfs: %s\n", oneLine(err.Error()))
	}
	return code
}

// errPrinted ends a command that has already printed why it failed.
var errPrinted = errors.New("failed")

// printed is an error that the command has already printed. It still has its exit code.
type printed struct{ err error }

func (e *printed) Error() string        { return e.err.Error() }
func (e *printed) Unwrap() error        { return e.err }
func (e *printed) Is(target error) bool { return target == errPrinted }

// exitCode returns the exit code of a command that ends with err.
func exitCode(err error) int {
	var (
		ue *usageError
		me *daemon.MountError
		ce *conn.Error
	)
	switch {
	case errors.As(err, &ue):
		return exitUsage
	case errors.As(err, &me):
		return exitMount
	case !errors.As(err, &ce):
		return exitFailed
	case commands.IsConfigurationError(ce):
		return exitConfig
	}
	switch ce.Kind {
	case conn.NotGranted, conn.Denied:
		return exitNotGranted
	case conn.Absent:
		return exitAbsent
	case conn.Unreachable, conn.Timeout:
		return exitUnreachable
	case conn.KeyRejected, conn.Invalid, conn.TooLarge:
		return exitUnreadable
	}
	return exitFailed
}

// logger returns the log of a command, which writes lines for people to standard error. It also
// becomes the log of all packages.
func (p *program) logger(level slog.Level) *slog.Logger {
	log := slog.New(newLogHandler(p.stderr, level))
	slog.SetDefault(log)
	return log
}
