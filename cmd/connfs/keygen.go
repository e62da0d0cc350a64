package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/kms"
)

var keygenCommand = command{
	name: "keygen", args: "FILE", summary: "make a key file for a KMS of type \"local\"",
	examples: `  sudo connfs keygen /etc/connfs/main.key

and in the configuration:

  [kms.main]
  type = "local"
  key  = "/etc/connfs/main.key"

The file has mode 0400, and connfs never overwrites one. Whoever has it can decrypt everything
that it seals, and without it nobody can: keep a copy, away from the database.
`,
	run: (*program).keygen,
}

func (p *program) keygen(_ context.Context, fl *flags) error {
	if fl.NArg() != 1 {
		return &usageError{fmt.Sprintf("it takes one file, not %d", fl.NArg()), fl.Name()}
	}
	key, id, err := kms.GenerateLocalKey()
	if err != nil {
		return err
	}
	defer clear(key)
	if err := writeKey(fl.Arg(0), key); err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "%s: key %s; keep a copy of the file, away from the database: what it "+
		"seals opens with no other key\n", oneLine(fl.Arg(0)), id)
	return nil
}

// writeKey makes a key file. When it returns, the file is safe from a crash of the machine; after
// an error there is no file.
func writeKey(path string, key []byte) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if errors.Is(err, fs.ErrExist) {
		e := conn.Errorf(conn.Failed, "", "%s exists, and connfs never overwrites a key",
			oneLine(path))
		e.Hint = "what it sealed can only be decrypted with it"
		return e
	}
	if err != nil {
		return fmt.Errorf("making the key file: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing the key file: %w", errors.Join(err, os.Remove(path)))
		}
	}()
	_, err = file.Write(key)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
