"""Reads JSON lines {"name", "content" (base64), "id"}, writes each file, and answers what this
Airflow's LocalFilesystemBackend reads from it."""
import base64
import os
import tempfile
import warnings

from fields import FIELDS, answers, plain, questions, quiet, text_of, write


def main():
    out = answers()
    warnings.simplefilter("ignore")
    from airflow.models import Connection  # noqa: F401  sets up the logging
    from airflow.secrets.local_filesystem import LocalFilesystemBackend
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        for q in questions():
            path = os.path.join(folder, q["name"])
            with open(path, "wb") as f:
                f.write(base64.b64decode(q["content"]))
            answer = {"id": q["id"]}
            try:
                c = LocalFilesystemBackend(connections_file_path=path).get_connection(q["id"])
                if c is None:
                    answer["error"] = "absent"
                else:
                    answer["uri"] = c.get_uri()
                    answer["fields"] = {k: plain(getattr(c, k)) for k in FIELDS}
            except Exception as e:
                answer["error"] = text_of(e)
            write(out, answer)
    out.close()


if __name__ == "__main__":
    main()
