#!/usr/bin/env python3
"""An exec plugin for connfs: connections are the members of one JSON file, as text (a URI or JSON)
or as objects.

Protocol: docs/exec-plugin.md. Usage: jsonfile.py FILE
"""
import json
import sys


def answer(request, path):
    op = request.get("op")
    if op == "hello":
        return {"version": 1, "can": ["list", "check"]}
    try:
        with open(path, encoding="utf-8") as f:
            connections = json.load(f)
    except OSError as e:
        kind = "denied" if isinstance(e, PermissionError) else "unreachable"
        return {"id": request.get("id"), "result": kind, "reason": e.strerror}
    except ValueError:
        return {"id": request.get("id"), "result": "invalid", "reason": "the file is not JSON"}
    if op == "list":
        return {"result": "ok", "ids": list(connections)}
    if op == "check":
        return {"result": "ok", "checks": [{"call": "read the file", "result": "ok"}]}
    if op != "get":
        return {"result": "invalid", "reason": "no such operation"}
    if request["id"] not in connections:
        return {"id": request["id"], "result": "absent"}
    value = connections[request["id"]]
    form = "value" if isinstance(value, str) else "fields"
    return {"id": request["id"], "result": "found", form: value}


# The end of standard input is the end of this program.
for line in sys.stdin.buffer:
    request = json.loads(line)
    print(json.dumps({"n": request["n"], **answer(request, sys.argv[1])}), flush=True)
