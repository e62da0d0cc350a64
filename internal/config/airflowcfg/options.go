package airflowcfg

// The options that connfs reads, as Airflow 2.10 describes them. An option that is not in
// these tables has no command, no secret, no old name, and an empty default.

// sensitive are the options that may have a _cmd and a _secret.
var sensitive = map[name]bool{
	{"core", "fernet_key"}:                true,
	{"database", "sql_alchemy_conn"}:      true,
	{"secrets", "backend_kwargs"}:         true,
	{"workers", "secrets_backend_kwargs"}: true,
}

// deprecated are the names that options had in Airflow 2.2.
var deprecated = map[name]name{
	{"database", "sql_alchemy_conn"}:         {"core", "sql_alchemy_conn"},
	{"database", "sql_alchemy_schema"}:       {"core", "sql_alchemy_schema"},
	{"database", "sql_alchemy_connect_args"}: {"core", "sql_alchemy_connect_args"},
}

// defaults are the defaults that are not empty.
var defaults = map[name]string{
	{"database", "sql_alchemy_conn"}: "sqlite:///$AIRFLOW_HOME/airflow.db",
}
