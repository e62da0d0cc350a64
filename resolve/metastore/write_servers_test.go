//go:build integration

package metastore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/resolvetest"
)

func TestServersRowsAreRewrittenAndPutBack(t *testing.T) {
	forEach(t, func(t *testing.T, k kindOfServer, s server, password string) {
		for _, version := range []string{"2.10", "3.3"} {
			database := "af" + strings.ReplaceAll(version, ".", "")
			s.Exec("airflow", fmt.Sprintf(k.createDatabase, database))
			script, err := os.ReadFile(filepath.Join("testdata", version, k.name+".sql"))
			if err != nil {
				t.Fatal(err)
			}
			s.Exec(database, string(script))
			e := readExpected(t, version)
			m, encrypt := openForWriting(t, s.URL("airflow", password, database), e.FernetKey)
			done := 0
			for id := range e.Connections {
				if _, err := m.Row(t.Context(), id); err != nil {
					continue // absent, or unreadable
				}
				thereAndBack(t, m, encrypt, id)
				done++
			}
			if done < 50 {
				t.Errorf("%s: only %d rows were rewritten", version, done)
			}
		}
	})
}

func TestServersWriteNothingWhereSomethingIsWrong(t *testing.T) {
	forEach(t, func(t *testing.T, k kindOfServer, s server, password string) {
		owner := direct(t, s)
		if _, err := owner.Exec(k.insert, "a", "http", nil, "h", nil, nil, "plain", nil,
			"{}"); err != nil {
			t.Fatal(err)
		}
		s.Exec("airflow", k.createReader)
		m, encrypt := openForWriting(t, s.URL("airflow", password, "airflow"), testKey)
		r, err := m.Row(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		stays := func(what, password string) {
			t.Helper()
			now, err := m.Row(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := now.Connection.Password.Reveal(); got != password ||
				now.Connection.Sealed() {
				t.Errorf("%s: the row is another one", what)
			}
		}

		// Who may only read.
		reader, _ := openForWriting(t, s.URL("reader", "readerpw", "airflow"), testKey)
		resolvetest.WantKind(t, "as a reader",
			reader.Rewrite(t.Context(), r, sealedForm(r.Connection), encrypt), conn.Denied)
		stays("as a reader", "plain")

		// A change that a collation does not see.
		if _, err := owner.Exec("UPDATE connection SET password = 'PLAIN'"); err != nil {
			t.Fatal(err)
		}
		resolvetest.WantKind(t, "changed meanwhile",
			m.Rewrite(t.Context(), r, sealedForm(r.Connection), encrypt), conn.Changed)
		stays("changed meanwhile", "PLAIN")

		// A change that is not committed yet is waited for, and then found.
		if r, err = m.Row(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		tx, err := owner.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec("UPDATE connection SET login = 'new'"); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		resolvetest.WantKind(t, "locked", m.Rewrite(short, r, sealedForm(r.Connection), encrypt),
			conn.Timeout)
		result := make(chan error, 1)
		go func() { result <- m.Rewrite(t.Context(), r, sealedForm(r.Connection), encrypt) }()
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		resolvetest.WantKind(t, "committed meanwhile", <-result, conn.Changed)
		stays("committed meanwhile", "PLAIN")

		// The server goes away in the middle: it has the lock to wait for.
		if r, err = m.Row(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if tx, err = owner.Begin(); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec("UPDATE connection SET login = 'other'"); err != nil {
			t.Fatal(err)
		}
		go func() { result <- m.Rewrite(t.Context(), r, sealedForm(r.Connection), encrypt) }()
		s.Kill()
		resolvetest.WantKind(t, "killed", <-result, conn.Unreachable)
		tx.Rollback()
		s.Start()
		stays("killed", "PLAIN")
	})
}
