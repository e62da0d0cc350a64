"""Reads JSON lines {"id", "value" (base64)}, puts each value into the environment as a connection,
and answers what this Airflow's own look-up finds. With --sdk it asks as a task of 3.x does."""
import base64
import os
import sys
import urllib.parse

from fields import answers, look_up, questions, quiet, write


class Brackets3114:
    """In this context urlsplit checks brackets as Python 3.11.4 does: the text between the first
    "[" of the netloc and the next "]" must be an address. Later releases, and Debian's 3.11.2,
    check the text at the place of the host."""

    def __enter__(self):
        self.check, host = urllib.parse._check_bracketed_netloc, urllib.parse._check_bracketed_host
        self.replace(lambda netloc: host(netloc.partition("[")[2].partition("]")[0]))

    def __exit__(self, *_):
        self.replace(self.check)

    @staticmethod
    def replace(check):
        urllib.parse._check_bracketed_netloc = check
        urllib.parse.urlsplit.cache_clear()


def main():
    out = answers()
    if "--sdk" in sys.argv:
        from airflow.sdk import Connection
        from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded as loaded
        get = Connection.get
    else:
        from airflow.configuration import ensure_secrets_loaded as loaded
        from airflow.models import Connection
        get = Connection.get_connection_from_secrets
    # Where the environment backend cannot read a value, Airflow goes on to the metastore. There is
    # no metastore here, which Airflow takes for "not found" as well.
    quiet()
    newer = hasattr(urllib.parse, "_check_bracketed_netloc")
    for q in questions():
        name, value = ("AIRFLOW_CONN_" + q["id"].upper()).encode(), base64.b64decode(q["value"])
        try:
            os.environb[name] = value
        except ValueError as e:  # a NUL
            write(out, {"id": q["id"], "error": "the environment cannot hold it: %s" % e})
            continue
        answer = look_up(get, loaded(), q["id"])
        if newer and b"[" in value and b"]" in value:
            with Brackets3114():
                other = look_up(get, loaded(), q["id"])
            if other != answer:
                answer["python_3_11_4"] = other
        write(out, answer)
        del os.environb[name]
    out.close()


if __name__ == "__main__":
    main()
