package session

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestUsersAreLookedUpAgainAndUnknownOnesAreLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	table := newUserTable(slog.New(slog.NewTextHandler(&log, nil)), "grants name", 0)
	names := []string{"root", "no-such-user-of-connfs"}
	if !table.refresh(t.Context(), names) {
		t.Error("a new name changes nothing")
	}
	if table.refresh(t.Context(), names) {
		t.Error("the same answer is a change")
	}
	if uid, ok := table.table()["root"]; !ok || uid != 0 {
		t.Errorf("root is %d, %v", uid, ok)
	}
	if uid, ok := table.table()["no-such-user-of-connfs"]; ok {
		t.Errorf("the unknown user has uid %d", uid)
	}
	if n := strings.Count(log.String(), "no-such-user-of-connfs"); n != 1 {
		t.Errorf("%d lines in the log:\n%s", n, log.String())
	}
}

// Thousands of names that nobody has are one line, and are not asked for again at once.
func TestUnknownUsersOfDAGsAreOneLine(t *testing.T) {
	var log bytes.Buffer
	table := newUserTable(slog.New(slog.NewTextHandler(&log, nil)), "DAGs name", time.Hour)
	names := []string{"root"}
	for i := range 3000 {
		names = append(names, fmt.Sprint("no-such-user-of-connfs-", i))
	}
	table.refresh(t.Context(), names)
	if n := strings.Count(log.String(), "\n"); n != 1 || log.Len() > 1000 {
		t.Errorf("%d lines, %d bytes", n, log.Len())
	}
	if due := table.due(names); len(due) != 1 {
		t.Errorf("%d names are due", len(due))
	}
	table.askAgain()
	if due := table.due(names); len(due) != len(names) {
		t.Errorf("%d names are due at a reload", len(due))
	}
	table.refresh(t.Context(), names[:2])
	if len(table.unknown) != 1 || len(table.table()) != 1 {
		t.Errorf("%d unknown names and %d known ones are kept", len(table.unknown),
			len(table.table()))
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines", n)
	}
}
