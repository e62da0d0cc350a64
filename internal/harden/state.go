package harden

import (
	"fmt"
	"os"
	"strings"
)

// State is what protects a process, as far as it can tell.
type State struct {
	// Swap says why its memory cannot be swapped out, or that it can: see [SwapState].
	Swap string `json:"swap"`
	// Calls: the kernel refuses system calls that it does not need.
	Calls bool `json:"calls"`
	// Files is the version of Landlock that keeps it from writing; 0: none does.
	Files int `json:"files"`
	// Namespace: what it started dies with it, whatever that is.
	Namespace bool `json:"namespace"`
}

// StateOf returns the state of this process, which [Start] started.
func StateOf() State {
	return State{
		Swap: SwapState(locked()), Calls: CallsFiltered(), Files: LandlockVersion(),
		Namespace: os.Getpid() == 1,
	}
}

// locked reports whether memory of this process is locked, beside single pages.
func locked() bool {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmLck: %d kB", &kib); n == 1 {
			return kib > 0
		}
	}
	return false
}

// String says in words what confines the process.
func (s State) String() string {
	var parts []string
	if s.Calls {
		parts = append(parts, "seccomp")
	}
	if s.Files > 0 {
		parts = append(parts, fmt.Sprintf("Landlock (version %d)", s.Files))
	}
	if s.Namespace {
		parts = append(parts, "a PID namespace of its own")
	}
	return strings.Join(append(parts, "no_new_privs"), ", ")
}

// Missing says in words what this kernel does not do for the state, one text each.
func (s State) Missing() []string {
	var missing []string
	add := func(there bool, text string) {
		if !there {
			missing = append(missing, text)
		}
	}
	add(s.Calls, "no system call is refused to them (seccomp)")
	add(s.Files > 0, "they can write where their user may (no Landlock)")
	return missing
}
