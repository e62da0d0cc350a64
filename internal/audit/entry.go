package audit

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// Entry is one line.
type Entry struct {
	Time      time.Time
	Op        string // "open", or "read" where a read is refused
	Mount     string // the mountpoint; empty for a command that needs no mount
	Tenant    string // whose mount it is
	UID, GID  uint32
	PID       uint32 // the thread that asked; 0: not visible from here
	Exe       string // the caller's program: a hint from /proc, which the caller can forge
	Cgroup    string // the caller's control group: a hint too
	RunAsUser string // the run_as_user of the rule
	DAGs      string // the dag of the rule, its label
	ID        string // the connection's id
	Allowed   bool
	Rule      string // "file:line", or why no rule allows it
	Source    string // the backend that answered; empty: there was no value
	Sealed    bool   // the value was sealed where it came from
	KMS       string // its kms_conn_id
	Key       string // which key of that KMS, as the KMS names it
	Cached    bool
	Errno     string // empty: success
	Unique    uint64 // the number of the FUSE request
	Resent    bool   // the kernel had sent the request to an earlier daemon, which ended
	Duration  time.Duration
	Count     uint64 // how many equal refusals the line stands for; 0 is written as 1

	// Stranger says that nothing at all is granted to the uid. All strangers share one
	// budget of lines. It is not written.
	Stranger bool
}

// append adds the line to b. It does so by hand because it is on the path of every open:
// encoding/json would cost several times as much as the decision that the line records.
func (e *Entry) append(b []byte) []byte {
	b = append(b, `{"time":"`...)
	b = timestamp(b, e.Time)
	b = append(b, '"')
	b = text(b, "op", e.Op)
	b = text(b, "mount", e.Mount)
	b = text(b, "tenant", e.Tenant)
	b = number(b, "uid", uint64(e.UID))
	b = number(b, "gid", uint64(e.GID))
	b = number(b, "pid", uint64(e.PID))
	b = text(b, "exe", e.Exe)
	b = text(b, "cgroup", e.Cgroup)
	b = text(b, "run_as_user", e.RunAsUser)
	b = text(b, "dags", e.DAGs)
	b = text(b, "id", e.ID)
	b = boolean(b, "allowed", e.Allowed)
	b = text(b, "rule", e.Rule)
	b = text(b, "source", e.Source)
	b = boolean(b, "sealed", e.Sealed)
	b = text(b, "kms", e.KMS)
	b = text(b, "key", e.Key)
	b = boolean(b, "cached", e.Cached)
	b = text(b, "errno", e.Errno)
	b = number(b, "unique", e.Unique)
	b = boolean(b, "resent", e.Resent)
	b = number(b, "duration_us", uint64(max(0, e.Duration.Microseconds())))
	b = number(b, "count", max(1, e.Count))
	return append(b, '}', '\n')
}

// timestamp adds t as RFC 3339 with microseconds in UTC. Time.AppendFormat would parse its
// layout each time.
func timestamp(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = append(digits(b, year, 4), '-')
	b = append(digits(b, int(month), 2), '-')
	b = append(digits(b, day, 2), 'T')
	b = append(digits(b, hour, 2), ':')
	b = append(digits(b, minute, 2), ':')
	b = append(digits(b, second, 2), '.')
	return append(digits(b, t.Nanosecond()/1000, 6), 'Z')
}

// digits adds the last n decimal digits of v, which is not negative.
func digits(b []byte, v, n int) []byte {
	at := len(b)
	b = append(b, "000000"[:n]...)
	for i := at + n - 1; v > 0 && i >= at; i-- {
		b[i] += byte(v % 10)
		v /= 10
	}
	return b
}

func number(b []byte, key string, n uint64) []byte {
	b = append(append(append(b, ',', '"'), key...), '"', ':')
	return strconv.AppendUint(b, n, 10)
}

func boolean(b []byte, key string, v bool) []byte {
	b = append(append(append(b, ',', '"'), key...), '"', ':')
	return strconv.AppendBool(b, v)
}

func text(b []byte, key, s string) []byte {
	b = append(append(append(b, ',', '"'), key...), '"', ':', '"')
	const hex = "0123456789abcdef"
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && n == 1:
				// A byte that is not UTF-8 is shown as Python's surrogateescape does, so
				// that two ids never look the same.
				b = append(b, '\\', 'u', 'd', 'c', hex[c>>4], hex[c&15])
			case r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a &&
				r <= 0x202e || r >= 0x2066 && r <= 0x2069:
				// Controls, line separators, and what changes the direction of text.
				b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
			default:
				b = append(b, s[i:i+n]...)
			}
			i += n
			continue
		}
		i++
	}
	return append(b, '"')
}
