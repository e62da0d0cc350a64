package cache

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// vmFlags returns the kernel's flags of the mapping that holds mem.
func vmFlags(t *testing.T, mem []byte) map[string]bool {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := uintptr(unsafe.Pointer(&mem[0]))
	inside := false
	for s := bufio.NewScanner(f); s.Scan(); {
		var start, end uintptr
		if n, _ := fmt.Sscanf(s.Text(), "%x-%x ", &start, &end); n == 2 {
			inside = start <= at && at < end
		}
		if list, ok := strings.CutPrefix(s.Text(), "VmFlags:"); ok && inside {
			flags := make(map[string]bool)
			for _, flag := range strings.Fields(list) {
				flags[flag] = true
			}
			return flags
		}
	}
	t.Fatal("the mapping is not in /proc/self/smaps")
	return nil
}
