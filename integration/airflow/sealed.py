"""Looks at sealed connections in the metastore under AIRFLOW_HOME as Airflow's own commands do: it
lists, gets and exports them, and changes another column through the model. Each question is {"id"},
and the answer is what `connections get` shows."""
import contextlib
import io
import json
import os
import tempfile

from fields import answers, questions, write


def airflow(*args):
    """What the command prints. It runs in this process, since starting Airflow takes most of the
    time of a command."""
    from airflow.cli import cli_parser

    parsed = cli_parser.get_parser().parse_args(args)
    # A file, since the export compares descriptors with that of standard output.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        with contextlib.redirect_stdout(printed):
            parsed.func(parsed)
        printed.seek(0)
        return printed.read()


def main():
    out = answers()
    asked = [q["id"] for q in questions()]
    listed = {c["conn_id"] for c in json.loads(airflow("connections", "list", "-o", "json"))}
    path = os.path.join(os.environ["AIRFLOW_HOME"], "export.json")
    airflow("connections", "export", path)
    with io.open(path) as f:
        exported = json.load(f)

    from airflow.models import Connection
    from airflow.utils.session import create_session

    for conn_id in asked:
        with create_session() as session:
            c = session.query(Connection).filter(Connection.conn_id == conn_id).one()
            c.description = "edited"
    airflow("rotate-fernet-key")
    for conn_id in asked:
        if conn_id not in listed:
            write(out, {"id": conn_id, "error": "not listed"})
            continue
        got = json.loads(airflow("connections", "get", conn_id, "-o", "json"))[0]
        fields = {
            "listed": True,
            "password": got["password"],
            "extra": json.dumps(got["extra_dejson"]),
            "host": got["host"],
            "exported_password": exported[conn_id]["password"],
            "exported_extra": exported[conn_id]["extra"],
            "description": got["description"],
        }
        # An edit of the extra in Airflow stores it as a token of its own.
        with create_session() as session:
            c = session.query(Connection).filter(Connection.conn_id == conn_id).one()
            c.set_extra(json.dumps(json.loads(c.extra), indent=2, sort_keys=True))
        write(out, {"id": conn_id, "fields": fields})
    out.close()


if __name__ == "__main__":
    main()
