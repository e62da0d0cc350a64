package resolve

// Settings is what the resolver needs to know: the secret part of the
// configuration. It exists in resolver children and, encoded, as an opaque blob
// in a locked slot of the front, and is never printed.
type Settings struct {
	Order   string // "aip-33" (the default) or "airflow"
	OnError string // "stop" (the default) or "next"

	Secrets     *SecretsSettings   // nil: no alternative backend in the path
	Metastore   *MetastoreSettings // nil: no metastore in the path
	Environment EnvironmentSettings

	// Login are the environment variables with which the clients of backends and KMS
	// log in. They are set in each child before it makes any client.
	Login []Variable
}

// SecretsSettings is the alternative backend, as Airflow's [secrets] backend and
// backend_kwargs name it.
type SecretsSettings struct {
	Backend string // a short name ("aws_ssm") or Airflow's class path
	Kwargs  string // backend_kwargs: a JSON object; empty: none
	// MultiTeam is Airflow's [core] multi_team: ids that name a team are refused, and
	// Team, where it is set, is asked first.
	MultiTeam bool
	Team      string
}

// MetastoreSettings names an Airflow metadata database.
type MetastoreSettings struct {
	URL       string // SQLAlchemy form, as in [database] sql_alchemy_conn
	Schema    string // [database] sql_alchemy_schema: where the tables are; empty: the server's default
	FernetKey string // [core] fernet_key, verbatim: comma-separated, first one writes; empty: no key
}

// EnvironmentSettings says where the AIRFLOW_CONN_* variables are.
type EnvironmentSettings struct {
	// File holds NAME=value lines and is read again when it changes. Empty:
	// Variables are used.
	File string
	// Variables are the AIRFLOW_CONN_* variables that connfs was started with.
	Variables []Variable
	// Spellings are ids that grants spell out. The name of a variable does not
	// tell the case of its id; List uses these, and lower case otherwise.
	Spellings []string
}
