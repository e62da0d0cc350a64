package deps

import (
	_ "github.com/BurntSushi/toml"
	_ "github.com/fernet/fernet-go"
	_ "github.com/go-sql-driver/mysql"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/hanwen/go-fuse/v2/fuse"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/coreos/go-systemd/v22/daemon"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "golang.org/x/sync/singleflight"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/text/unicode/norm"
	_ "modernc.org/sqlite"
)
