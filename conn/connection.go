// Package conn is the connection: Airflow's model of it, the URI and JSON forms
// in which Airflow's secrets backends keep one, and the rendering that connfs
// serves. Values mean exactly what they mean to Airflow 2.10; where its versions
// differ, what a task of 2.10 reads counts.
//
// It is the one package that every other may import, and imports none of ours.
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
