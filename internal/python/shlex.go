package python

import (
	"errors"
	"strings"
)

// ShlexSplit is Python's shlex.split: it cuts a command line into words. White space, both
// kinds of quotes and backslashes have a meaning; comments and everything else that a shell
// knows do not. Its error shows nothing of the line.
func ShlexSplit(line string) ([]string, error) {
	var (
		words []string
		word  strings.Builder
		begun bool // there is a word, which may be empty: ''
	)
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t', '\r', '\n':
			if begun {
				words = append(words, word.String())
				word.Reset()
				begun = false
			}
		case '\'':
			end := strings.IndexByte(line[i+1:], '\'')
			if end < 0 {
				return nil, errors.New("a quotation is not closed")
			}
			word.WriteString(line[i+1 : i+1+end])
			begun = true
			i += 1 + end
		case '"':
			begun = true
			for i++; i < len(line) && line[i] != '"'; i++ {
				// Inside double quotes a backslash protects only itself and the quote.
				if line[i] == '\\' && i+1 < len(line) && (line[i+1] == '"' || line[i+1] == '\\') {
					i++
				}
				word.WriteByte(line[i])
			}
			if i >= len(line) {
				return nil, errors.New("a quotation is not closed")
			}
		case '\\':
			if i++; i >= len(line) {
				return nil, errors.New("nothing follows the last backslash")
			}
			word.WriteByte(line[i])
			begun = true
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}
