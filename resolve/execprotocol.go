package resolve

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/python"
	"github.com/connfs/connfs/resolve/backend"
)

// The protocol between connfs and an exec plugin is described in docs/exec-plugin.md.
const (
	execVersion = 1
	// execMaxLine is how long a line of the program may be, in bytes. A connection of
	// 1 MiB fits, whatever is escaped in it.
	execMaxLine = 8 << 20
	// execMaxReason is how much of a reason is shown, in characters.
	execMaxReason = 200
)

// execRequest is a line to the program.
type execRequest struct {
	N       uint64  `json:"n"`
	Op      string  `json:"op"`
	Version int     `json:"version,omitempty"`
	ID      *string `json:"id,omitempty"`
}

func (r *execRequest) line() []byte {
	text, _ := json.Marshal(r)
	return append(text, '\n')
}

// execAnswer is a line from the program: a JSON object.
type execAnswer struct {
	n       uint64
	members *python.Object
}

// parseExecAnswer reads a line. Its error says what is wrong with its form, and shows
// nothing of it.
func parseExecAnswer(line []byte) (*execAnswer, error) {
	if !utf8.Valid(line) {
		return nil, execBreach("a line is not UTF-8")
	}
	value, err := python.LoadJSON(string(line), python.MaxDepth+2)
	members, ok := value.(*python.Object)
	if err != nil || !ok {
		return nil, execBreach("a line is not a JSON object")
	}
	text, _ := members.Get("n").(python.Integer)
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return nil, execBreach("an answer has no number n")
	}
	return &execAnswer{n, members}, nil
}

// execBreach is the error of a program that does not keep to the protocol.
func execBreach(what string) error {
	return &conn.Error{
		Kind: conn.Unreachable, Source: execSource, Reason: "the program does not keep to the protocol: " + what,
		Hint: "connfs check-plugin tells more",
	}
}

// execKinds are the results that are failures.
var execKinds = map[string]conn.Kind{
	"absent": conn.Absent, "denied": conn.Denied, "unreachable": conn.Unreachable, "timeout": conn.Timeout, "invalid": conn.Invalid,
}

// failure returns the error that the answer, or an object in it, is; nil for the wanted
// result.
func execFailure(members *python.Object, wanted string) error {
	result, _ := members.Get("result").(string)
	if result == wanted {
		return nil
	}
	kind, ok := execKinds[result]
	if !ok {
		return execBreach("a result is none that there is")
	}
	reason, _ := members.Get("reason").(string)
	return &conn.Error{Kind: kind, Source: execSource, Reason: execReason(reason)}
}

// execReason is what of a program's reason is shown: one line of limited length.
func execReason(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if r := []rune(text); len(r) > execMaxReason {
		text = string(r[:execMaxReason]) + "..."
	}
	if text = strings.TrimSpace(text); text == "" {
		return "the program says no more"
	}
	return "the program says: " + text
}

// hello checks the answer to the handshake, and returns what the program can do beside
// get.
func (a *execAnswer) hello() ([]string, error) {
	if version, _ := a.members.Get("version").(python.Integer); version != python.Integer(fmt.Sprint(execVersion)) {
		return nil, execBreach(fmt.Sprintf("it does not speak version %d", execVersion))
	}
	return a.texts("can")
}

// texts returns a list of texts; none where the key is not there.
func (a *execAnswer) texts(key string) ([]string, error) {
	value := a.members.Get(key)
	list, ok := value.([]any)
	if value != nil && !ok {
		return nil, execBreach(key + " is not a list of texts")
	}
	texts := make([]string, 0, len(list))
	for _, item := range list {
		text, ok := item.(string)
		if !ok || !utf8.ValidString(text) {
			return nil, execBreach(key + " is not a list of texts")
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// connection returns the connection of the answer to a get.
func (a *execAnswer) connection(id string) (*conn.Connection, error) {
	if answered, ok := a.members.Get("id").(string); !ok || answered != id {
		return nil, errExecID
	}
	if err := execFailure(a.members, "found"); err != nil {
		return nil, err
	}
	value, isText := a.members.Get("value").(string)
	fields, isObject := a.members.Get("fields").(*python.Object)
	switch {
	case isText == isObject:
		return nil, execBreach("what is found is neither a value nor fields, or both")
	case isObject:
		value = python.DumpJSON(fields)
	case value == "":
		return nil, conn.Errorf(conn.Absent, execSource, "the value is empty")
	}
	c, err := conn.Parse(value)
	if err != nil {
		return nil, backend.Invalid(execSource, err)
	}
	return c, nil
}

// errExecID means that answers may have been mixed up.
var errExecID = execBreach("an answer is not for the id that was asked for")

// ids returns the ids of the answer to a list, each once.
func (a *execAnswer) ids() ([]string, error) {
	if err := execFailure(a.members, "ok"); err != nil {
		return nil, err
	}
	ids, err := a.texts("ids")
	slices.Sort(ids)
	return slices.Compact(ids), err
}

// checks returns the results of the answer to a check.
func (a *execAnswer) checks() ([]backend.Check, error) {
	if err := execFailure(a.members, "ok"); err != nil {
		return nil, err
	}
	list, _ := a.members.Get("checks").([]any)
	var checks []backend.Check
	for _, item := range list {
		one, ok := item.(*python.Object)
		if !ok {
			return nil, execBreach("checks is not a list of objects")
		}
		call, _ := one.Get("call").(string)
		checks = append(checks, backend.Check{Call: strings.TrimPrefix(execReason(call), "the program says: "), Err: execFailure(one, "ok")})
	}
	return checks, nil
}
