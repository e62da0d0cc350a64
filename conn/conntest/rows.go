package conntest

import (
	"fmt"

	"github.com/connfs/connfs/conn"
)

// Row is a connection as a row of a metastore, with nil for null. Unlike
// [conn.Connection] it is marshalled with its password and extra in plain text, for a
// script that writes it into a real Airflow.
type Row struct {
	ID          string  `json:"conn_id"`
	Type        *string `json:"conn_type"`
	Description *string `json:"description"`
	Host        *string `json:"host"`
	Login       *string `json:"login"`
	Password    *string `json:"password"`
	Schema      *string `json:"schema"`
	Port        *int64  `json:"port"`
	Extra       *string `json:"extra"`
}

// Connection returns what the row means.
func (r Row) Connection() *conn.Connection {
	return &conn.Connection{
		Type: r.Type, Description: r.Description, Host: r.Host, Login: r.Login,
		Schema: r.Schema, Port: r.Port, Password: secret(r.Password), Extra: secret(r.Extra),
	}
}

func secret(text *string) conn.Secret {
	if text == nil {
		return conn.Secret{}
	}
	return conn.NewSecret(*text)
}

// Connections returns n rows with ids that differ, even if case is ignored. Every field
// can be stored by each of Airflow's databases: it is valid UTF-8 without NUL, ports have
// 32 bits, and no conn_type is null. Ids and conn_types fit into their columns.
func Connections(seed int64, n int) []Row {
	g := newGenerator(seed)
	rows := make([]Row, n)
	ids := []string{
		"plain_", "Mixed-", "a.b_", "team/", "x:", "é_", "100%25", ".dot", "w s ",
	}
	for i := range rows {
		connType := g.clean(g.pick(schemes))
		rows[i] = Row{
			ID:          fmt.Sprintf("%s%d", g.pick(ids), i),
			Type:        &connType,
			Description: g.nullable(g.text()),
			Host:        g.nullable(g.hostText()),
			Login:       g.nullable(g.text()),
			Password:    g.nullable(g.text()),
			Schema:      g.nullable(g.text()),
			Port:        g.port(),
			Extra:       g.nullable(g.extraText()),
		}
	}
	return rows
}

// nullable returns a clean text, or null.
func (g generator) nullable(s string) *string {
	if g.chance(4) {
		return nil
	}
	s = g.clean(s)
	return &s
}

// clean drops NUL and bytes that are not UTF-8.
func (g generator) clean(s string) string {
	var b []rune
	for _, r := range s {
		if r != 0 && r != '\uFFFD' {
			b = append(b, r)
		}
	}
	return string(b)
}

func (g generator) hostText() string {
	if g.chance(4) {
		return g.pick(schemes) + "://" + g.word()
	}
	return g.text()
}

func (g generator) extraText() string {
	switch g.IntN(6) {
	case 0:
		return g.text()
	case 1:
		return g.any(3)
	case 2:
		return g.gap() + g.anyObject(3) + g.gap()
	case 3:
		return ""
	}
	return g.anyObject(3)
}

func (g generator) port() *int64 {
	if g.chance(3) {
		return nil
	}
	p := []int64{0, 1, 80, 5432, 65535, 65536, -3, 2147483647}[g.IntN(8)]
	return &p
}
