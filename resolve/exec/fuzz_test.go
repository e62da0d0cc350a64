package exec

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/connfs/connfs/conn"
)

// FuzzAnswer holds that whatever a program writes is an answer or a breach of the
// protocol, and that only an answer that names the id brings a connection.
func FuzzAnswer(f *testing.F) {
	for _, line := range []string{
		`{"n":1,"version":1,"can":["list"]}`, `{"n":2,"id":"x","result":"found","value":"a://b"}`, `{"n":3,"id":"x","result":"found","fields":{"host":"h","extra":{"a":1}}}`,
		`{"n":4,"id":"x","result":"denied","reason":"no\u0000"}`, `{"n":5,"result":"ok","ids":["x","x"]}`, `{"n":6,"result":"ok","checks":[{"call":"c","result":"denied"}]}`, `{"n":-1}`, `{"n":1.5}`, "[]",
	} {
		f.Add([]byte(line + "\n"))
	}
	f.Fuzz(func(t *testing.T, output []byte) {
		lines := bufio.NewReader(bytes.NewReader(output))
		for {
			line, err := readLine(lines, 1<<16)
			if err != nil {
				return
			}
			a, err := parseAnswer(line)
			if err != nil {
				if conn.KindOf(err) != conn.Unreachable {
					t.Fatalf("%v, want unreachable", err)
				}
				continue
			}
			c, err := a.connection("x")
			if (c == nil) == (err == nil) {
				t.Fatal("neither a connection nor an error")
			}
			if id, _ := a.members.Get("id").(string); err == nil && id != "x" {
				t.Fatalf("the connection of %q was taken", id)
			}
			_, _ = a.hello()
			_, _ = a.ids()
			_, _ = a.checks()
		}
	})
}
