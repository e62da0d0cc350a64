package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// targetIdle is for front and spare child together, in MiB of PSS.
const targetIdle = 40

// usage is the memory of a process or of several, in KiB.
type usage struct{ rss, pss int }

// memory measures what connfs needs idle and after many reads.
func memory(b *bench) {
	metastore := sqliteMetastore(b.sqlite("memory", 1))
	d := b.quietly("memory", "c0", `epoch = "2s"`, `ttl = "2s"`, metastore)
	var out [][]string
	note := func(when string) {
		front, all := d.memory()
		target := ""
		if strings.Contains(when, "idle") {
			target = met(float64(all.pss)/1024, targetIdle)
		}
		out = append(out, []string{
			when, mib(front.rss), mib(front.pss), strconv.Itoa(len(d.pids()) - 1), mib(all.rss),
			mib(all.pss), target,
		})
	}
	// The child that answered dies with its epoch, and the spare takes its place.
	time.Sleep(4 * time.Second)
	note("idle, one read so far")
	done := 0
	for _, until := range []int{b.reads / 100, b.reads / 4, b.reads} {
		b.load(d, allCPUs(), "-threads", "16", "-n", strconv.Itoa(until-done), "-warmup", "0")
		done = until
		note(fmt.Sprintf("after %d cached reads", done))
	}
	time.Sleep(4 * time.Second)
	note("idle again")
	fmt.Print("Resident and proportional set size, MiB. The binary's own pages, which all its " +
		"processes share, count once in PSS.\n\n")
	table([]string{"", "front RSS", "front PSS", "children", "all RSS", "all PSS", "target, MiB"},
		out)
}

func mib(kib int) string { return fmt.Sprintf("%.1f", float64(kib)/1024) }

// memory returns what the front uses, and what all processes use together.
func (d *daemon) memory() (front, all usage) {
	for i, pid := range d.pids() {
		u := rollup(pid)
		if i == 0 {
			front = u
		}
		all.rss += u.rss
		all.pss += u.pss
	}
	return front, all
}

func rollup(pid int) usage {
	var u usage
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return u // it ended
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		key, rest, _ := strings.Cut(s.Text(), ":")
		n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
		switch key {
		case "Rss":
			u.rss = n
		case "Pss":
			u.pss = n
		}
	}
	return u
}
