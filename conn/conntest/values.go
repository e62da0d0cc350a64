// Package conntest makes connections to test with: texts that a string backend may
// hold, most of them unusual, and rows that a metastore may hold. They depend only on
// the seed, so that a test can put the same ones into a real Airflow and compare.
package conntest

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Values returns n texts that a string backend may hold: URIs, JSON, and texts that are
// neither. Airflow refuses many of them. Some hold bytes that are not UTF-8.
func Values(seed int64, n int) []string {
	g := newGenerator(seed)
	values := make([]string, n)
	for i := range values {
		switch g.IntN(20) {
		case 0:
			values[i] = g.some(fragments, 12)
		case 1:
			values[i] = g.mutate(g.uri())
		case 2:
			values[i] = g.mutate(g.object())
		case 3:
			values[i] = g.pick(space) + g.uri() + g.pick(space)
		case 4:
			values[i] = g.pick(space) + g.object() + g.pick(space)
		case 5, 6, 7, 8, 9, 10, 11:
			values[i] = g.uri()
		default:
			values[i] = g.object()
		}
	}
	return values
}

// generator makes texts out of random choices.
type generator struct{ *rand.Rand }

func newGenerator(seed int64) generator {
	return generator{rand.New(rand.NewPCG(uint64(seed), 0))}
}

// pick returns one of the choices.
func (g generator) pick(choices []string) string { return choices[g.IntN(len(choices))] }

// chance is true once in n times, on average.
func (g generator) chance(n int) bool { return g.IntN(n) == 0 }

// some joins up to n of the choices.
func (g generator) some(choices []string, n int) string {
	var b strings.Builder
	for range g.IntN(n + 1) {
		b.WriteString(g.pick(choices))
	}
	return b.String()
}

// word returns a few letters, rarely anything else.
func (g generator) word() string {
	if g.chance(6) {
		return g.some(fragments, 4)
	}
	return g.some(letters, 8)
}

// mutate deletes, repeats or inserts something at up to three random places.
func (g generator) mutate(s string) string {
	for range 1 + g.IntN(3) {
		i := g.IntN(len(s) + 1)
		j := min(len(s), i+g.IntN(3))
		switch g.IntN(3) {
		case 0:
			s = s[:i] + s[j:]
		case 1:
			s = s[:j] + s[i:]
		default:
			s = s[:i] + g.pick(fragments) + s[i:]
		}
	}
	return s
}

// The pieces that texts are made of.
var (
	letters = strings.Split("a b c x y z A Z 0 7 - _ .", " ")
	space   = []string{
		"", " ", "\n", "\t ", "\x1c", "\u0085", "\u00a0", "\u2028", "\u3000", "\u180e", "\ufeff",
		"\x00", "\r\n",
	}
	schemes = []string{
		"mysql", "postgresql", "postgres", "HTTP", "http", "https", "google-cloud-platform",
		"postgresql+psycopg2",
		"spark", "", "my_type", "1a", "a.b", "k8s", "POSTGRESQL", "é", "s3 ", "x\ty",
	}
	fragments = []string{
		"a", "B", "é", "ß", "İ", "Σ", "ΑΣ", "ﬁ", "接", "🔑", "\u0301", "\u2028", "\ufeff", "\u180e",
		"／", "？", "＠", "：", "＃", "℀", "⁇", "。", "％",
		"%", "%41", "%C3%A9", "%c3", "%E2%82", "%F0%9F%94%91", "%ff", "%ED%A0%80", "%zz", "%2",
		"%00", "%2F", "%3A", "%40", "%25", "%5B", "%20",
		"+", "&", "=", ";", ",", "/", "//", "://", ":", "@", "?", "#", "[", "]", "::1", "[::1]",
		"{", "}", "\"", "'", "\\", "<", ">",
		" ", "\t", "\r", "\n", "\x00", "\x01", "\x1d", "\x1f", "\x7f", "\u0080", "\u0085", "\u00a0",
		"\xff", "\xc3", "\xed\xa0\x80", "__extra__", "0", "9", "٣", "３",
	}
	ports = []string{
		"0", "1", "80", "5432", "65535", "65536", "00080", "-1", "+80", "8_0", " 80", "80 ", "８０",
		"٣", "x", "80x", "1\t2", "99999999999999999999", "",
	}
	brackets = []string{
		"[::1]", "[fe80::1%eth0]", "[FE80::1%25eth0]", "[::ffff:1.2.3.4]", "[1.2.3.4]", "[v1.x]",
		"[vF.A:b]", "[vg.x]", "[V1.x]", "[v1.]", "[]",
		"[::1", "::1]", "x[::1]y", "[::1%]", "[::1%a%b]", "[1::2::3]", "[1:2:3:4:5:6:7:8]",
		"[1:2:3:4:5:6:7::]", "[1:2:3:4:5:6:7:8:9]", "[::01.2.3.4]",
		"[12345::]", "[::é]", "[1:2:3:4:5:6:1.2.3.4]", "[:1]", "[1:]", "[v1./x]", "[v1.%2F]",
		"[::1%2F]", "[::256.1.1.1]", "[::1.2.3]", "[::1]]", "[[::1]]",
	}
)

// uri returns a URI, or nearly one.
func (g generator) uri() string {
	s := g.pick(schemes)
	if g.chance(20) {
		s += g.some(fragments, 2)
	}
	switch g.IntN(16) {
	case 0:
		s += ":"
	case 1:
		s += ":/"
	case 2:
		s += "://" + g.pick(schemes) + "://"
	case 3:
		s += "://" + g.userinfo() + g.pick(schemes) + "://"
	default:
		s += "://"
	}
	return s + g.userinfo() + g.host() + g.path() + g.query()
}

func (g generator) userinfo() string {
	switch g.IntN(6) {
	case 0:
		return ""
	case 1:
		return "@"
	case 2:
		return g.word() + "@"
	case 3:
		return ":" + g.word() + "@"
	case 4:
		return g.word() + ":" + g.word() + g.pick(fragments) + "@"
	}
	return g.word() + ":" + g.word() + "@"
}

func (g generator) host() string {
	host := g.word()
	switch g.IntN(6) {
	case 0:
		host = g.pick(brackets)
	case 1:
		host = "%2F" + host
	case 2:
		host += g.some(fragments, 3)
	}
	if g.chance(2) {
		host += ":" + g.pick(ports)
	}
	return host
}

func (g generator) path() string {
	switch g.IntN(5) {
	case 0:
		return ""
	case 1:
		return "/"
	case 2:
		return g.some(fragments, 4)
	}
	return "/" + g.word()
}

func (g generator) query() string {
	if g.chance(2) {
		return ""
	}
	var params []string
	for range g.IntN(4) {
		switch g.IntN(8) {
		case 0:
			params = append(params, "__extra__="+percent(g.object()))
		case 1:
			params = append(params, "__extra__="+g.some(fragments, 3))
		case 2:
			params = append(params, g.some(fragments, 3))
		default:
			params = append(params, g.word()+"="+g.word())
		}
	}
	query := "?" + strings.Join(params, "&")
	if g.chance(8) {
		query += "#" + g.word()
	}
	return query
}

// percent writes every byte of s as %XX.
func percent(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02x", c)
	}
	return b.String()
}
