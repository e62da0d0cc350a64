"""What write.py and read.py have in common: how Airflow is asked, and how its answer is written down."""
import json
import logging
import os
import sys

FIELDS = ["conn_type", "description", "host", "login", "password", "schema", "port", "extra"]


def answers():
    """Standard output as a file of our own: what Airflow itself prints goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    return out


def quiet():
    """After Airflow is imported, and so has set up its logging: a traceback for each value that does not parse takes long."""
    logging.disable(logging.CRITICAL)


def text_of(error):
    return "%s: %s" % (type(error).__name__, error)


def look_up(get, conn_id):
    """The answer to one id, as a dictionary; get is the function that a hook would call."""
    try:
        c = get(conn_id)
        return {"id": conn_id, "fields": {k: getattr(c, k) for k in FIELDS}, "uri": c.get_uri()}
    except Exception as e:
        return {"id": conn_id, "error": text_of(e)}


def write(out, answer):
    out.write(json.dumps(answer, default=repr) + "\n")


def questions():
    return [json.loads(line) for line in sys.stdin.buffer]
