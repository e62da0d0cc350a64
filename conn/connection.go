// Package conn is the connection: Airflow's model of it, the URI and JSON forms
// in which Airflow's secrets backends keep one, and the rendering that connfs
// serves. Values mean exactly what they mean to Airflow. Where its versions
// differ, what a task of Airflow 2.10 reads counts.
//
// Every other package may import this one. Of this module it imports only
// internal/python.
package conn

// Connection is one Airflow connection. A nil field is Airflow's None, which
// differs from the empty text.
type Connection struct {
	Type        *string // conn_type
	Description *string
	Host        *string
	Login       *string
	Password    Secret
	Schema      *string
	Port        *int64
	Extra       Secret // the stored text, of whatever form
}

// Equal reports whether both connections have the same fields, text by text.
func (c *Connection) Equal(other *Connection) bool {
	return equal(c.Type, other.Type) && equal(c.Description, other.Description) &&
		equal(c.Host, other.Host) && equal(c.Login, other.Login) &&
		c.Password == other.Password && equal(c.Schema, other.Schema) &&
		equal(c.Port, other.Port) && c.Extra == other.Extra
}

func equal[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
