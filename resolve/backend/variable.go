package backend

import (
	"crypto/rand"
	"crypto/subtle"
	"strings"
)

// Variable is an environment variable that connfs was started with. It stays in
// memory for as long as connfs runs, so its value lies there under a mask of random
// bytes: this hides nothing from who can read both, but a value that nobody asks for
// is nowhere in memory as it is.
type Variable struct {
	Name   string
	Pad    []byte
	Masked []byte
}

// Masked returns those variables of an environment block that keep wants.
func Masked(environ []string, keep func(name string) bool) []Variable {
	var out []Variable
	seen := make(map[string]bool)
	for _, line := range environ {
		name, value, ok := strings.Cut(line, "=")
		if !ok || seen[name] || !keep(name) {
			continue
		}
		seen[name] = true
		v := Variable{Name: name, Pad: make([]byte, len(value)), Masked: make([]byte, len(value))}
		rand.Read(v.Pad)
		subtle.XORBytes(v.Masked, []byte(value), v.Pad)
		out = append(out, v)
	}
	return out
}

// Value returns the value as it was.
func (v Variable) Value() string {
	value := make([]byte, len(v.Masked))
	subtle.XORBytes(value, v.Masked, v.Pad)
	return string(value)
}
