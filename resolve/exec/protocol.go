package exec

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
	protocolVersion = 1
	// maxLine is how long a line of the program may be, in bytes. A connection of
	// 1 MiB fits, whatever is escaped in it.
	maxLine = 8 << 20
	// maxReason is how much of a reason is shown, in characters.
	maxReason = 200
)

// request is a line to the program.
type request struct {
	N       uint64  `json:"n"`
	Op      string  `json:"op"`
	Version int     `json:"version,omitempty"`
	ID      *string `json:"id,omitempty"`
}

func (r *request) line() []byte {
	text, _ := json.Marshal(r)
	return append(text, '\n')
}

// answer is a line from the program: a JSON object.
type answer struct {
	n       uint64
	members *python.Object
}

// parseAnswer reads a line. Its error says what is wrong with its form, and shows
// nothing of it.
func parseAnswer(line []byte) (*answer, error) {
	if !utf8.Valid(line) {
		return nil, breach("a line is not UTF-8")
	}
	value, err := python.LoadJSON(string(line), python.MaxDepth+2)
	members, ok := value.(*python.Object)
	if err != nil || !ok {
		return nil, breach("a line is not a JSON object")
	}
	text, _ := members.Get("n").(python.Integer)
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return nil, breach("an answer has no number n")
	}
	return &answer{n, members}, nil
}

// breach is the error of a program that does not keep to the protocol.
func breach(what string) error {
	return &conn.Error{
		Kind: conn.Unreachable, Source: source,
		Reason: "the program does not keep to the protocol: " + what,
		Hint:   "connfs check-plugin tells more",
	}
}

// kinds are the results that are failures.
var kinds = map[string]conn.Kind{
	"absent": conn.Absent, "denied": conn.Denied, "unreachable": conn.Unreachable,
	"timeout": conn.Timeout, "invalid": conn.Invalid,
}

// failure returns the error that the answer, or an object in it, is; nil for the wanted
// result.
func failure(members *python.Object, wanted string) error {
	result, _ := members.Get("result").(string)
	if result == wanted {
		return nil
	}
	kind, ok := kinds[result]
	if !ok {
		return breach("it answered with an unknown result")
	}
	reason, _ := members.Get("reason").(string)
	return &conn.Error{Kind: kind, Source: source, Reason: cleanReason(reason)}
}

// cleanReason is what of a program's reason is shown: one line of limited length.
func cleanReason(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if r := []rune(text); len(r) > maxReason {
		text = string(r[:maxReason]) + "..."
	}
	if text = strings.TrimSpace(text); text == "" {
		return "the program says no more"
	}
	return "the program says: " + text
}

// hello checks the answer to the handshake, and returns what the program can do beside
// get.
func (a *answer) hello() ([]string, error) {
	version, _ := a.members.Get("version").(python.Integer)
	if version != python.Integer(fmt.Sprint(protocolVersion)) {
		return nil, breach(fmt.Sprintf("it does not speak version %d", protocolVersion))
	}
	return a.texts("can")
}

// texts returns a list of texts; none where the key is not there.
func (a *answer) texts(key string) ([]string, error) {
	value := a.members.Get(key)
	list, ok := value.([]any)
	if value != nil && !ok {
		return nil, breach(key + " is not a list of texts")
	}
	texts := make([]string, 0, len(list))
	for _, item := range list {
		text, ok := item.(string)
		if !ok || !utf8.ValidString(text) {
			return nil, breach(key + " is not a list of texts")
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// connection returns the connection of the answer to a get.
func (a *answer) connection(id string) (*conn.Connection, error) {
	if answered, ok := a.members.Get("id").(string); !ok || answered != id {
		return nil, errWrongID
	}
	if err := failure(a.members, "found"); err != nil {
		return nil, err
	}
	value, isText := a.members.Get("value").(string)
	fields, isObject := a.members.Get("fields").(*python.Object)
	switch {
	case isText == isObject:
		return nil, breach("what is found is neither a value nor fields, or both")
	case isObject:
		value = python.DumpJSON(fields)
	case value == "":
		return nil, conn.Errorf(conn.Absent, source, "the value is empty")
	}
	c, err := conn.Parse(value)
	if err != nil {
		return nil, backend.Invalid(source, err)
	}
	return c, nil
}

// errWrongID means that answers may have been mixed up.
var errWrongID = breach("an answer is not for the id that was asked for")

// ids returns the ids of the answer to a list, each once.
func (a *answer) ids() ([]string, error) {
	if err := failure(a.members, "ok"); err != nil {
		return nil, err
	}
	ids, err := a.texts("ids")
	slices.Sort(ids)
	return slices.Compact(ids), err
}

// checks returns the results of the answer to a check.
func (a *answer) checks() ([]conn.Check, error) {
	if err := failure(a.members, "ok"); err != nil {
		return nil, err
	}
	list, _ := a.members.Get("checks").([]any)
	var checks []conn.Check
	for _, item := range list {
		one, ok := item.(*python.Object)
		if !ok {
			return nil, breach("checks is not a list of objects")
		}
		call, _ := one.Get("call").(string)
		checks = append(checks, conn.Check{
			Call: strings.TrimPrefix(cleanReason(call), "the program says: "),
			Err:  failure(one, "ok"),
		})
	}
	return checks, nil
}
