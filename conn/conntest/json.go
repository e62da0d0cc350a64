package conntest

import (
	"fmt"
	"strings"
)

var (
	keys = []string{
		"conn_type", "description", "host", "login", "password", "schema", "port", "extra",
		"conn_type", "host", "extra", "port",
	}
	otherKeys = []string{
		"uri", "conn_id", "self", "extra_dejson", "user", "", "Host", "host ", "team_name",
		`h\u006fst`, `\ud800`,
	}
	numbers = []string{
		"0", "-0", "1", "-7", "5432", "0.0", "-0.0", "1.5", "5432.9", "-0.4", "1e2", "1E+5", "1e-5",
		"0.0001", "123456.789e3", "1e15", "1e16", "1e22", "1e30", "1e400", "-1e400",
		"5e-324", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
		"9223372036854774784.0", "9223372036854775808.0", "12345678901234567890123",
		"NaN", "Infinity", "-Infinity", "01", "1.", ".5", "- 1", "+1", "1e", "0x1", "-", "1_0",
	}
	// escapes are what a JSON string may hold, and what it may not.
	escapes = []string{
		`\"`, `\\`, `\/`, `\b\f\n\r\t`, `\u0000`, `\u001f`, `\u007f`, `\u00e9`, `\u2028`,
		`\ud83d\udd11`, `\uD83D\uDD11`, `\ud800`, `\udc00`, `\udc00\ud800`, `\ud83d \udd11`,
		`\ud83d\u0041`,
		`\ud83d\ud83d\udd11`, `\u12`, `\x41`, `\a`, `\u00G0`, `\u 123`, `\`,
	}
)

// object returns a connection in JSON, or nearly one.
func (g generator) object() string {
	var members []string
	for range g.IntN(9) {
		key := g.pick(keys)
		if g.chance(60) {
			key = g.pick(otherKeys)
		}
		members = append(members, g.gap()+`"`+key+`"`+g.gap()+":"+g.gap()+g.member(key)+g.gap())
	}
	if g.chance(40) {
		return `{"uri":` + g.quoted(g.uri()) + g.pick([]string{
			"", `,"host":[]`, `,"description":"d"`, `,"port":"0"`, `,"extra":{}`, `,"login":"x"`,
		}) + "}"
	}
	return "{" + strings.Join(members, ",") + "}"
}

// gap returns white space between tokens, rarely of a kind that JSON forbids.
func (g generator) gap() string {
	switch {
	case g.chance(400):
		return g.pick(space)
	case g.chance(8):
		return g.pick([]string{" ", "\n", "\t", "\r\n  "})
	}
	return ""
}

// member returns a value that a key of a connection may have.
func (g generator) member(key string) string {
	switch {
	case g.chance(25):
		return g.any(3)
	case key == "port":
		if g.chance(2) {
			return g.pick(numbers)
		}
		return g.quoted(g.pick(ports))
	case key == "extra":
		switch g.IntN(6) {
		case 0:
			return g.quoted(g.text())
		case 1:
			return g.quoted(g.any(3))
		case 2:
			return g.any(3)
		}
		return g.anyObject(4)
	case key == "conn_type" && g.chance(2):
		return g.quoted(g.pick(schemes))
	case g.chance(12):
		return "null"
	}
	return g.quoted(g.text())
}

// text returns the content of a string, before it is quoted.
func (g generator) text() string {
	if g.chance(3) {
		return g.some(fragments, 5)
	}
	return g.word()
}

// quoted returns a JSON string, rarely with something wrong in it.
func (g generator) quoted(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(rune(c)))
		case c < 0x20 && !g.chance(50):
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteByte(c)
		}
	}
	if g.chance(10) {
		b.WriteString(g.pick(escapes))
	}
	return `"` + b.String() + `"`
}

// any returns any JSON value, nested at most depth deep.
func (g generator) any(depth int) string {
	switch n := g.IntN(10); {
	case n < 2 && depth > 0:
		return g.anyObject(depth)
	case n < 4 && depth > 0:
		items := make([]string, g.IntN(4))
		for i := range items {
			items[i] = g.gap() + g.any(depth-1) + g.gap()
		}
		return "[" + strings.Join(items, ",") + "]"
	case n < 6:
		return g.pick(numbers[:g.IntN(len(numbers))+1])
	case n < 7:
		return g.pick([]string{"null", "true", "false", "null", "True", "nul", "{}", "[]", `""`})
	}
	return g.quoted(g.text())
}

// anyObject returns a JSON object, often flat and of strings only.
func (g generator) anyObject(depth int) string {
	members := make([]string, g.IntN(4))
	flat := g.chance(2)
	for i := range members {
		value := g.quoted(g.text())
		if !flat {
			value = g.any(depth - 1)
		}
		members[i] = g.gap() + g.quoted(g.text()) + g.gap() + ":" + g.gap() + value
	}
	return "{" + strings.Join(members, ",") + g.gap() + "}"
}
