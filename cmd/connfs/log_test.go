package main

import (
	"encoding/json"
	"testing"
)

func TestNothingThatIsPrintedCommandsATerminal(t *testing.T) {
	for text, want := range map[string]string{
		"billing_db":        "billing_db",
		"Zürich \\ \"数\"":   "Zürich \\ \"数\"",
		"a\nconnfs: forged": `a\nconnfs: forged`,
		"\x1b[31mred":       `\x1b[31mred`,
		"\u009b31mred":      `\u009b31mred`, // a control sequence in one character
		"a\u202eb":          `a\u202eb`,     // turns around what follows
		"a\u2028b":          `a\u2028b`,
		"a\u200bb":          `a\u200bb`,
		"a\xffb":            `a\xffb`,
	} {
		if got := oneLine(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestJSONIsPrintableAndTheSame(t *testing.T) {
	for text, want := range map[string]string{
		"<a&b> ü":    `"<a&b> ü"`,
		"\u009bm":    `"\u009bm"`,
		"\u202eb":    `"\u202eb"`,
		"\x7f":       `"\u007f"`,
		"\U000e0001": `"\udb40\udc01"`,
	} {
		got := jsonText(text)
		var back string
		if err := json.Unmarshal([]byte(got), &back); err != nil || got != want || back != text {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
}
