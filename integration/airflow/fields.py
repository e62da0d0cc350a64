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


def plain(value):
    """A field as JSON that any parser reads back as what it is. An object stands for what JSON has no form of, or no field
    should hold: a lone surrogate, a float, a list."""
    if value is None or type(value) is int:
        return value
    if isinstance(value, str):
        try:
            value.encode()
            return value
        except UnicodeEncodeError:
            pass
    return {"python": ascii(value)}


def dejson(connection):
    """The extra as a hook sees it, and dumped by Python. None where there is none, or no JSON."""
    try:
        return json.dumps(json.loads(connection.extra))
    except (TypeError, ValueError):
        return None


def cause(backends, conn_id):
    """Why the look-up, which only says that the id "isn't defined", did not take what a backend has."""
    for backend in backends:
        try:
            c = backend.get_connection(conn_id)
            if c:
                c.get_uri()
        except Exception as e:
            return text_of(e)
    return ""


def look_up(get, backends, conn_id):
    """The answer to one id, as a dictionary; get is the function that a hook would call."""
    try:
        c = get(conn_id)
        return {"id": conn_id, "fields": {k: plain(getattr(c, k)) for k in FIELDS}, "uri": c.get_uri(), "dejson": dejson(c)}
    except Exception as e:
        return {"id": conn_id, "error": text_of(e), "cause": cause(backends, conn_id)}


def write(out, answer):
    out.write(json.dumps(answer) + "\n")


def questions():
    return [json.loads(line) for line in sys.stdin.buffer]
