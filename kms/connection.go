package kms

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"

	"github.com/connfs/connfs/conn"
)

// The keys that connfs adds to the extra of an Airflow connection that stands for a KMS.
const (
	connectionKey  = "kms_key"
	connectionMode = "kms_mode"
)

// extraOf returns the extra of a connection as an object that may be changed.
func extraOf(c *conn.Connection) (map[string]any, error) {
	text, _ := c.Extra.Reveal()
	extra := make(map[string]any)
	if strings.TrimSpace(text) == "" {
		return extra, nil
	}
	if err := json.Unmarshal([]byte(text), &extra); err != nil || extra == nil {
		return nil, errors.New("its extra is not a JSON object")
	}
	return maps.Clone(extra), nil
}

// takeText takes a text out of an extra. A null counts as not set.
func takeText(extra map[string]any, key string, to *string) error {
	value := extra[key]
	delete(extra, key)
	if value == nil {
		return nil
	}
	text, ok := value.(string)
	if !ok {
		return errors.New(key + ": expected a string")
	}
	*to = text
	return nil
}

// takeMode takes the mode out of an extra.
func takeMode(extra map[string]any, to *string) error {
	err := takeText(extra, connectionMode, to)
	if err == nil && *to != "" && *to != envelope && *to != direct {
		return errors.New(connectionMode + ": it is neither envelope nor direct")
	}
	return err
}

// plainName returns the key if it is a plain name, and otherwise "".
func plainName(key string) string {
	if strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_0123456789") != "" {
		return ""
	}
	return key
}
