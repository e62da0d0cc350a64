package configparser

import (
	"errors"
	"strings"
	"testing"
)

// Whatever the file says: no panic, an end, and every error is of a line that is
// there.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", "[a]\nx = 1\n", "[a]\nx : 1\n  y\n\n  z\n[b]x\n", "[DEFAULT]\nx=%(y)s\n[a]\ny=%%\n",
		"[a]\nx=%(x)s\n",
		"\ufeff[a]\n", "x = 1\n", "[a]\r\nx = 1\r", "[a]\n = 1\n", "[a]\nx = %(\n",
		"[a]\nx=%(y)s%(y)s\ny=%(z)s%(z)s\nz=%(x)s\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Count(strings.ReplaceAll(text, "\r", "\n"), "\n") + 1
		check := func(err error) {
			var parse *ParseError
			if err != nil && (!errors.As(err, &parse) || parse.Line < 1 || parse.Line > lines) {
				t.Errorf("%v of a file with %d lines", err, lines)
			}
		}
		d, err := Parse("airflow.cfg", text)
		check(err)
		if err != nil {
			return
		}
		for section, options := range d.sections {
			for name := range options {
				value, line, ok, err := d.Get(section, name)
				check(err)
				if err == nil && (!ok || line < 1 || line > lines) {
					t.Errorf("[%s] %s is on line %d of %d", section, name, line, lines)
				}
				if strings.ContainsRune(value, '\r') {
					t.Errorf("[%s] %s holds a carriage return", section, name)
				}
			}
		}
	})
}
