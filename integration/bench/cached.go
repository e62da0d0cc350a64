package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// reading is what the load generator prints.
type reading struct {
	Errors int     `json:"errors"`
	Ops    float64 `json:"ops_per_s"`
	P50    float64 `json:"p50_us"`
	P99    float64 `json:"p99_us"`
	CPU    float64 `json:"server_cpu_us_per_op"`
}

// Targets of connfs with its audit in a file, as ratios to floorfs.
const (
	targetP50 = 1.15
	targetCPU = 1.25
)

// cached measures open, read and close of a file that the daemon has in memory.
//
// What a FUSE read costs on a shared machine moves by a third from minute to minute, so all
// daemons run all the time and every round measures each of them, in an order that turns
// about; medians over the rounds are divided. With one thread, reader and daemons share
// one CPU: left to the scheduler, the same binary measured against itself gives anything
// from 0.5 to 1.1. With more threads they run free. floorfs is there twice: how far its
// ratio to itself is from 1 is how far to trust the others.
func cached(b *bench) {
	metastore := sqliteMetastore(b.sqlite("cached", 1))
	audited := b.connfsWith("connfs", "c0", auditFile, `ttl = "60s"`, metastore)
	content := audited.read("c0")
	if len(content) != fileSize {
		b.Fatalf("connfs serves %d bytes, not %d", len(content), fileSize)
	}
	body := b.write("body", string(content))
	daemons := []*daemon{
		b.floor("floorfs", "-body", body),
		b.floor("floorfs again", "-body", body),
		b.quietly("connfs, audit to /dev/null", "c0", `ttl = "60s"`, metastore),
		audited,
		b.connfsWith("connfs, audit required", "c0", auditRequired, `ttl = "60s"`, metastore),
	}
	var out [][]string
	for word := range strings.SplitSeq(b.threads, ",") {
		threads, err := strconv.Atoi(word)
		b.must(err)
		cpus := allCPUs()
		if threads == 1 {
			cpus = "0"
		}
		for _, d := range daemons {
			d.pin(cpus)
		}
		got := make(map[*daemon][]reading)
		order := slices.Clone(daemons)
		for range b.rounds {
			for _, d := range order {
				got[d] = append(
					got[d],
					b.load(d, cpus, "-threads", word, "-seconds", fmt.Sprint(b.seconds), "-warmup",
						"0.15"),
				)
			}
			order = append(order[1:], order[0])
			// Files that grew would be written to disk during some later round.
			b.must(os.Truncate(b.dir+"/connfs.audit", 0))
		}
		out = append(out, compare(threads, daemons, got)...)
	}
	fmt.Printf("%d bytes; medians of %d rounds of %g s; in brackets the ratio to floorfs.\n\n",
		fileSize, b.rounds, b.seconds)
	table(
		[]string{
			"threads", "", "ops/s", "p50, µs", "p99, µs", "daemon CPU per op, µs",
			fmt.Sprintf("targets p50 %g, CPU %g", targetP50, targetCPU),
		},
		out,
	)
}

// allCPUs is the list of all CPUs as taskset takes it.
func allCPUs() string { return fmt.Sprintf("0-%d", runtime.NumCPU()-1) }

// load runs the load generator on the file c0 of d.
func (b *bench) load(d *daemon, cpus string, args ...string) reading {
	args = append(
		[]string{
			"-c", cpus, b.reader, "-path", d.file("c0"), "-pid", strconv.Itoa(d.cmd.Process.Pid),
			"-uid", strconv.Itoa(uid),
		},
		args...,
	)
	text, err := exec.Command("taskset", args...).Output()
	var r reading
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil || r.Errors > 0 {
		b.Fatalf("reading from %s: %v %s", d.name, err, text)
	}
	return r
}

// compare returns the rows of one number of threads. The first daemon is the base.
func compare(threads int, daemons []*daemon, got map[*daemon][]reading) [][]string {
	median := func(d *daemon, figure func(reading) float64) float64 {
		var v []float64
		for _, r := range got[d] {
			v = append(v, figure(r))
		}
		return at(v, 0.5)
	}
	var out [][]string
	for _, d := range daemons {
		ratios := make(map[string]float64)
		cell := func(what, format string, figure func(reading) float64) string {
			m, base := median(d, figure), median(daemons[0], figure)
			ratios[what] = m / base
			return fmt.Sprintf(format+" (%.2f)", m, m/base)
		}
		row := []string{
			strconv.Itoa(threads), d.name,
			cell("ops", "%.0f", func(r reading) float64 { return r.Ops }),
			cell("p50", "%.1f", func(r reading) float64 { return r.P50 }),
			cell("p99", "%.0f", func(r reading) float64 { return r.P99 }),
			cell("cpu", "%.1f", func(r reading) float64 { return r.CPU }), "",
		}
		if d.name == "connfs" {
			row[6] = met(ratios["p50"], targetP50) + "; " + met(ratios["cpu"], targetCPU)
		}
		out = append(out, row)
	}
	return out
}
