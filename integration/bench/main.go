// Command bench measures connfs beside named references, and prints tables.
//
//	go run ./integration/bench [flags] [PART...]
//
// Every figure is a ratio, or stands beside what it is to be compared with, taken in the
// same rounds: absolute times on shared machines mean little. It judges nothing: a
// missed target does not fail. It needs root, Go, a C compiler and what scripts/setup
// installs, and is started in the root of the checkout, where bin/connfs is.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// part is one subject, which can be measured alone.
type part struct {
	name, title string
	run         func(*bench)
}

var parts = []part{
	{"cached", "Cached open + read + close", cached},
	{"cold", "Cold reads", cold},
	{"crowd", "A crowd that reads one id", crowd},
	{"list", "Listing 100,000 ids", listing},
	{"memory", "Memory", memory},
	{"start", "Start to first byte", start},
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == clientCommand {
		clientMain()
		return
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) (code int) {
	b := &bench{}
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.IntVar(&b.rounds, "rounds", 8, "how often the fast parts are repeated; medians count")
	flags.Float64Var(&b.seconds, "seconds", 0.5, "length of a round of the part cached")
	flags.StringVar(&b.threads, "threads", "1,4,16,64", "reading threads of the part cached")
	flags.IntVar(&b.reads, "reads", 1_000_000, "reads of the part memory")
	flags.IntVar(&b.ids, "ids", 100_000, "ids of the part list")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: bench [flags] [PART...]")
		for _, p := range parts {
			fmt.Fprintf(flags.Output(), "  %-8s %s\n", p.name, p.title)
		}
		flags.PrintDefaults()
	}
	_ = flags.Parse(args) // it exits where it fails
	for _, name := range flags.Args() {
		if !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			fmt.Fprintf(os.Stderr, "bench: no part %q\n", name)
			flags.Usage()
			return 2
		}
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-interrupted
		b.clean()
		os.Exit(1)
	}()
	defer b.clean()
	defer func() {
		if f, ok := recover().(failure); ok {
			fmt.Fprintln(os.Stderr, "bench:", string(f))
			code = 1
		}
	}()
	b.prepare()
	for _, p := range parts {
		if flags.NArg() > 0 && !slices.Contains(flags.Args(), p.name) {
			continue
		}
		began := time.Now()
		fmt.Printf("\n## %s\n\n    go run ./integration/bench%s %s\n\n", p.title, changed(flags),
			p.name)
		b.during(func() { p.run(b) })
		fmt.Fprintf(os.Stderr, "bench: %s took %.0f s\n", p.name, time.Since(began).Seconds())
	}
	return 0
}

// changed returns the flags that were given, as they were.
func changed(flags *flag.FlagSet) string {
	var b strings.Builder
	flags.Visit(func(f *flag.Flag) { fmt.Fprintf(&b, " -%s %s", f.Name, f.Value) })
	return b.String()
}
