"""Reads JSON lines {"class", "kwargs", "environment", "id"}, asks a secrets backend of that class
for the id, and answers with the text that it holds and the connection that this Airflow reads from
it."""
import base64
import importlib
import json
import os

from fields import answers, look_up, questions, quiet, text_of, write


def main():
    out = answers()
    import airflow.models  # noqa: F401  sets up Airflow
    quiet()
    backends = {}
    for q in questions():
        os.environ.update(q["environment"])
        key = (q["class"], json.dumps(q["kwargs"], sort_keys=True))
        if key not in backends:
            module, _, name = q["class"].rpartition(".")
            backends[key] = getattr(importlib.import_module(module), name)(**q["kwargs"])
        backend = backends[key]
        try:
            value = backend.get_conn_value(q["id"])
        except Exception as e:
            write(out, {"id": q["id"], "error": text_of(e)})
            continue
        answer = {"id": q["id"]}
        if value:
            answer = look_up(backend.get_connection, [], q["id"])
            answer["value"] = base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()
        write(out, answer)
    out.close()


if __name__ == "__main__":
    main()
