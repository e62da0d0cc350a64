package policy

import "strings"

// IsLiteral reports whether a pattern matches only one id, which is its own text.
func IsLiteral(pattern string) bool { return !strings.ContainsAny(pattern, "*?[") }

// Literal returns the pattern that matches text and nothing else.
func Literal(text string) string {
	return strings.NewReplacer("[", "[[]", "*", "[*]", "?", "[?]").Replace(text)
}
