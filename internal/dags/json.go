package dags

import (
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/connfs/connfs/internal/python"
)

// document is the JSON text of a DAG.
type document struct {
	*python.JSONIndex
	duplicate bool // get was asked for a key that an object has twice
}

// value is a value of a document.
type value = python.JSONValue

// none stands for the value of a key that is not there.
const none = python.NoValue

// parseJSON checks the whole text by the rules of Python's json.
func parseJSON(text []byte) (*document, error) {
	if len(text) > maxDocument {
		return nil, invalid(reasonTooLarge)
	}
	index, err := python.IndexJSON(text, python.JSONLimits{Depth: maxDepth, Values: maxValues})
	switch {
	case errors.Is(err, python.ErrDepth):
		return nil, invalid(reasonTooDeep)
	case errors.Is(err, python.ErrSize):
		return nil, invalid(reasonTooLarge)
	case errors.Is(err, python.ErrExtraData):
		return nil, invalid(reasonTrailing)
	case err != nil:
		return nil, invalid(reasonNotJSON)
	case !utf8.Valid(text):
		return nil, invalid(reasonNotUTF8)
	}
	return &document{JSONIndex: index}, nil
}

// string returns a text. It returns false for anything else, and for a text with a lone
// surrogate, which UTF-8 cannot hold.
func (d *document) string(v value) (string, bool) {
	if d.Kind(v) != python.KindText {
		return "", false
	}
	text := python.JSONText(d.Raw(v))
	return text, utf8.ValidString(text)
}

// get returns the value of exactly this key in an object, or none.
func (d *document) get(v value, key string) value {
	found, several := d.Get(v, key)
	d.duplicate = d.duplicate || several
	return found
}

// unwrap returns the "__var" of {"__type": kind, "__var": ...}, and v itself if it
// is anything else.
func (d *document) unwrap(v value, kind string) value {
	if t, ok := d.string(d.get(v, "__type")); ok && t == kind {
		if inside := d.get(v, "__var"); inside != none {
			return inside
		}
	}
	return v
}

// show returns the beginning of a value, for a log line.
func (d *document) show(v value) string {
	if text, ok := d.string(v); ok {
		return quote(text)
	}
	return quote(string(d.Raw(v)))
}

// digit returns a number that is written as one decimal digit.
func (d *document) digit(v value) (int, bool) {
	if d.Kind(v) != python.KindNumber || len(d.Raw(v)) != 1 {
		return 0, false
	}
	n, err := strconv.Atoi(string(d.Raw(v)))
	return n, err == nil
}
