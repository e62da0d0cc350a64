"""What the programs of this directory share: how they ask Airflow, and how they write its
answer."""
import json
import logging
import os
import sys

FIELDS = ["conn_type", "description", "host", "login", "password", "schema", "port", "extra"]


def answers():
    """Standard output, as a file that only our answers go to. What Airflow prints goes to standard
    error from here on."""
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    return out


def quiet():
    """Turns logging off: a traceback for each value that does not parse takes long. Airflow sets up
    its logging when it is imported, so call this afterwards."""
    logging.disable(logging.CRITICAL)


def text_of(error):
    return "%s: %s" % (type(error).__name__, error)


def plain(value):
    """A field as JSON that any parser reads back unchanged. An object stands for what has no form
    in JSON or should not be in a field: a lone surrogate, a float, a list."""
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
    """The extra as a hook sees it, dumped by Python. None where it is missing or is not JSON."""
    try:
        return json.dumps(json.loads(connection.extra))
    except (TypeError, ValueError):
        return None


def cause(backends, conn_id):
    """Why the look-up did not take what a backend has. The look-up itself only says that the id
    "isn't defined"."""
    for backend in backends:
        try:
            c = backend.get_connection(conn_id)
            if c:
                c.get_uri()
        except Exception as e:
            return text_of(e)
    return ""


def look_up(get, backends, conn_id):
    """The answer for one id, as a dictionary. get is the function that a hook would call."""
    try:
        c = get(conn_id)
        return {"id": conn_id, "fields": {k: plain(getattr(c, k)) for k in FIELDS},
                "uri": c.get_uri(), "dejson": dejson(c)}
    except Exception as e:
        return {"id": conn_id, "error": text_of(e), "cause": cause(backends, conn_id)}


def write(out, answer):
    out.write(json.dumps(answer) + "\n")


def questions():
    return [json.loads(line) for line in sys.stdin.buffer]
