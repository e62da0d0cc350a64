//go:build integration

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sizes are the lengths of the files that every tool reads: below, at and above the
// size that is shown while the true one is not known, and one of many pages.
var sizes = map[string]int{"short": 0, "page": 4096, "pages": 4097, "long": 40_000}

// sized serves files of the sizes above, copies times over, and returns their contents
// by size. The files are named "page_0", "page_1" and so on.
func sized(t *testing.T, keys string, copies int) (*daemon, map[string]string) {
	t.Helper()
	s := newSite(t)
	texts := make(map[string]string)
	var variables []string
	for name, size := range sizes {
		empty := fileText("http", "h.example", "made-up", `{"k": ""}`)
		text := strings.Replace(empty, `{"k": ""}`, `{"k": "`+filler(size-len(empty))+`"}`, 1)
		texts[name] = text
		for i := range copies {
			variables = append(
				variables,
				fmt.Sprintf("AIRFLOW_CONN_%s_%d=%s", strings.ToUpper(name), i,
					strings.TrimSpace(text)),
			)
		}
	}
	s.configure(keys, s.environment(variables...)+grant(alice, "*"))
	return s.serve(), texts
}

// filler returns n bytes in which every place looks different.
func filler(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.String()[:max(n, 0)]
}

// tools read the file $1 in all the ways that people do, and write what they read to
// standard output or to the file $2.
var tools = []struct{ name, script string }{
	{"bash $(<f)", `printf '%s\n' "$(<"$1")"`},
	{"bash read", `IFS= read -r line <"$1"; printf '%s\n' "$line"`},
	{"bash mapfile", `mapfile <"$1"; printf '%s' "${MAPFILE[@]}"`},
	{"bash while read", `while IFS= read -r line; do printf '%s\n' "$line"; done <"$1"`},
	{"cat", `cat "$1"`},
	{"cat on standard input", `cat <"$1"`},
	{"cp", `cp "$1" "$2"`},
	{"cp --sparse=always", `cp --sparse=always "$1" "$2"`},
	{"install", `install -m 0600 "$1" "$2"`},
	{"dd", `dd if="$1" bs=64k status=none`},
	{"dd in small blocks", `dd if="$1" bs=7 status=none`},
	{"dd iflag=direct", `dd if="$1" bs=64k iflag=direct status=none`},
	{"head", `head -c 1000000 "$1"`},
	{"head of a line", `head -n 1 "$1"`},
	{"tail", `tail -n 1 "$1"`},
	{"tail -c", `tail -c +1 "$1"`},
	{"tac", `tac "$1"`},
	{"grep", `grep conn_type "$1"`},
	{"sed", `sed -n p "$1"`},
	{"awk", `awk '{print}' "$1"`},
	{"sort", `sort "$1"`},
	{"jq", `jq -c . "$1" >"$2.jq" && cat "$1" && [ "$(jq -r .host "$1")" = h.example ]`},
	{"gzip", `gzip -c "$1" | gunzip`},
	{"base64", `base64 "$1" | base64 -d`},
	{"busybox cat", `busybox cat "$1"`},
	{"busybox cp", `busybox cp "$1" "$2"`},
	{"busybox dd", `busybox dd if="$1" 2>&-`},
	{"busybox tail", `busybox tail -n 1 "$1"`},
	{
		"python open().read()",
		`python3.11 -c 'import sys; sys.stdout.write(open(sys.argv[1]).read())' "$1"`,
	},
	{"python bytes", `python3.11 -c 'import sys; sys.stdout.buffer.write(open(sys.argv[1], "rb", 0).read())' "$1"`},
	{"python json.load", `python3.11 -c 'import json, sys; d = json.load(open(sys.argv[1])); assert d["host"] == "h.example" and list(d)[0] == "conn_type"; sys.stdout.write(open(sys.argv[1]).read())' "$1"`},
	{"python pathlib", `python3.11 -c 'import pathlib, sys; sys.stdout.write(pathlib.Path(sys.argv[1]).read_text())' "$1"`},
	{
		"python shutil.copyfile",
		`python3.11 -c 'import shutil, sys; shutil.copyfile(sys.argv[1], sys.argv[2])' "$1" "$2"`,
	},
	{"python shutil.copyfileobj", `python3.11 -c 'import shutil, sys; shutil.copyfileobj(open(sys.argv[1], "rb"), open(sys.argv[2], "wb"))' "$1" "$2"`},
	{"python os.sendfile and then read", `python3.11 -c '
import errno, os, sys
f = os.open(sys.argv[1], os.O_RDONLY)
try:
    os.sendfile(1, f, 0, 4096)
    sys.exit("sendfile worked")
except OSError as e:
    assert e.errno == errno.EINVAL, e
while b := os.read(f, 65536):
    os.write(1, b)' "$1"`},
	{"python os.pread from the end", `python3.11 -c '
import os, sys
f, at, parts = os.open(sys.argv[1], os.O_RDONLY), 0, []
n = os.fstat(f).st_size
for at in reversed(range(0, n, 1000)):
    parts.insert(0, os.pread(f, min(1000, n - at), at))
os.write(1, b"".join(parts)); assert os.pread(f, 10, n) == b""' "$1"`},
	{
		"node readFileSync",
		`node -e 'process.stdout.write(require("fs").readFileSync(process.argv[1]))' "$1"`,
	},
	{"node readFile", `node -e 'require("fs/promises").readFile(process.argv[1], "utf8").then(s => process.stdout.write(s))' "$1"`},
	{
		"node createReadStream",
		`node -e 'require("fs").createReadStream(process.argv[1]).pipe(process.stdout)' "$1"`,
	},
}

func TestEveryToolReadsTheSameBytes(t *testing.T) {
	t.Parallel()
	d, texts := sized(t, `ttl = "60s"`, len(tools))
	out := t.TempDir()
	must(t, os.Chmod(filepath.Dir(out), 0o711), os.Chmod(out, 0o777))
	for i, tool := range tools {
		t.Run(tool.name, func(t *testing.T) {
			for name, want := range texts {
				// The size is not known at first, and then it is.
				for _, known := range []string{"cold", "warm"} {
					path, to := d.file(fmt.Sprintf("%s_%d", name, i)),
						filepath.Join(out, fmt.Sprint(i, name, known))
					got, stderr, code := output(t, alice, "bash", "-c", tool.script, "bash", path,
						to)
					if copied, err := os.ReadFile(to); err == nil {
						got = append(got, copied...)
					}
					if code != 0 || stderr != "" || string(got) != want {
						t.Errorf("%s, %d bytes: exit %d, %d bytes, equal: %v; %s", known, len(want),
							code, len(got), string(got) == want, stderr)
					}
				}
			}
		})
	}
}

func TestGoReadsTheSameBytes(t *testing.T) {
	t.Parallel()
	d, texts := sized(t, `ttl = "0s"`, 1)
	a := as(t, alice)
	for id, want := range texts {
		a.reads(d.file(id+"_0"), want)
	}
}

func TestReadersAtOnce(t *testing.T) {
	t.Parallel()
	for _, keys := range []string{"ttl = \"0s\"\nepoch = \"1s\"", `ttl = "1s"`, `ttl = "60s"`} {
		d, texts := sized(t, keys, 1)
		one, two := as(t, alice), as(t, alice)
		for id, want := range texts {
			one.send(request{Op: "storm", Path: d.file(id + "_0"), N: 2})
			two.send(request{Op: "storm", Path: d.file(id + "_0"), N: 64})
			for r, n := range map[*reader]int{one: 2, two: 64} {
				if got := r.receive(patience); got.Counts[digest([]byte(want))] != n {
					t.Errorf("%s, %s: %d readers got %v, want %s each", keys, id, n, got.Counts,
						digest([]byte(want)))
				}
			}
		}
	}
}

// A descriptor holds no content: each read after the TTL resolves the connection anew.
func TestDescriptorOutlivesTheTTL(t *testing.T) {
	t.Parallel()
	d, texts := sized(t, "ttl = \"200ms\"\nepoch = \"200ms\"", 1)
	a := as(t, alice)
	path, want := d.file("long_0"), texts["long"]
	if got := a.do(request{Op: "open", Path: path}); got.failure() != "" {
		t.Fatal(got.failure())
	}
	opens := len(d.auditLines(`"op":"open"`))
	for at := 0; at < len(want); at += 10_000 {
		got := a.do(request{Op: "pread", Path: path, N: at})
		if got.failure() != "" || string(got.Data) != want[at:] {
			t.Errorf("from byte %d: %q and %d bytes, want %d", at, got.failure(), len(got.Data),
				len(want)-at)
		}
		time.Sleep(250 * time.Millisecond) // past the TTL
	}
	if got := a.do(request{Op: "pread", Path: path, N: len(want)}); got.failure() != "" ||
		len(got.Data) != 0 {
		t.Errorf("at the end: %q and %d bytes", got.failure(), len(got.Data))
	}
	if n := len(d.auditLines(`"op":"open"`)); n != opens {
		t.Errorf("%d opens in the audit, want %d", n, opens)
	}
}
