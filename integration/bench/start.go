package main

import (
	"fmt"
	"time"
)

// targetStart is from exec of the daemon to a reader's first byte.
const targetStart = 100 * time.Millisecond

// start measures the time from exec of the daemon to the moment at which a process of
// another uid, which tries all the time, has read the file. The connection lies in a
// SQLite metastore.
func start(b *bench) {
	config := b.config("start", auditFile, sqliteMetastore(b.sqlite("start", 1)))
	kinds := []struct {
		name string
		args []string
	}{
		{"floorfs", []string{b.floorfs, "-mount", "{MOUNT}"}},
		{"connfs", []string{b.connfs, "mount", "--config", config, "{MOUNT}"}},
	}
	c := b.client()
	times := make(map[string][]time.Duration)
	rounds := 2 * b.rounds
	for i := range rounds {
		for _, k := range kinds {
			b.during(func() {
				began := monotonic()
				d := b.exec(fmt.Sprintf("%s-start-%d", k.name, i), k.args[0],
					append([]string(nil), k.args[1:]...)...)
				times[k.name] = append(
					times[k.name],
					c.ask(question{
						Paths: []string{d.file("c0")}, Patient: 30 * time.Second,
					}).Times[0]-began,
				)
			})
		}
	}
	var out [][]string
	for _, k := range kinds {
		t := times[k.name]
		target := ""
		if k.name == "connfs" {
			target = met(float64(at(t, 0.5))/1e6, float64(targetStart)/1e6)
		}
		out = append(out, []string{
			k.name, millis(at(t, 0)), millis(at(t, 0.5)), millis(at(t, 1)),
			ratio(at(t, 0.5), at(times["floorfs"], 0.5)), target,
		})
	}
	fmt.Printf("%d starts each, in turn; ms.\n\n", rounds)
	table([]string{"", "fastest", "median", "slowest", "median / floorfs", "target, ms"}, out)
}
