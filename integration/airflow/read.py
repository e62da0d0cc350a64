"""Reads JSON lines {"id", "value" (base64)}, puts each value into the environment as a connection, and writes what this
Airflow's own look-up makes of it. With --sdk it asks as a task of 3.x does."""
import base64
import os
import sys

from fields import answers, look_up, questions, quiet, write


def main():
    out = answers()
    if "--sdk" in sys.argv:
        from airflow.sdk import Connection
        get = Connection.get
    else:
        from airflow.models import Connection
        get = Connection.get_connection_from_secrets
    # A value that the environment backend cannot read sends Airflow on to the metastore. There is none, which it takes
    # for "not found" as well.
    quiet()
    for q in questions():
        name = ("AIRFLOW_CONN_" + q["id"].upper()).encode()
        try:
            os.environb[name] = base64.b64decode(q["value"])
        except ValueError as e:  # a NUL
            write(out, {"id": q["id"], "error": "the environment cannot hold it: %s" % e})
            continue
        write(out, look_up(get, q["id"]))
        del os.environb[name]
    out.close()


if __name__ == "__main__":
    main()
