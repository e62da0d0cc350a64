package kms

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
)

// The keys that connfs adds to the extra of an Airflow connection that stands for a KMS.
const (
	connectionKey  = "kms_key"
	connectionMode = "kms_mode"
)

// extraOf returns the members of a connection's extra.
func extraOf(c *conn.Connection) (map[string]any, error) {
	text, _ := c.Extra.Reveal()
	extra := make(map[string]any)
	if strings.TrimSpace(text) == "" {
		return extra, nil
	}
	if err := json.Unmarshal([]byte(text), &extra); err != nil || extra == nil {
		return nil, errors.New("its extra is not a JSON object")
	}
	return extra, nil
}

// takeMode takes the mode out of an extra.
func takeMode(extra *arguments.Object) string {
	mode := extra.Text(connectionMode, "")
	if mode != "" && mode != envelope && mode != direct {
		extra.Fail(connectionMode, "it is neither envelope nor direct")
	}
	return mode
}

// plainName returns the key if it is a plain name, and otherwise "".
func plainName(key string) string {
	if strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_0123456789") != "" {
		return ""
	}
	return key
}
