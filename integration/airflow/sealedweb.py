"""Looks at sealed connections as Airflow's web server does, in this process. It asks for the list,
and for each question {"id"} for the edit form (2.x) and the REST API. Both then save what they
showed, and the answer has the row after each save."""
import html.parser
import json
import logging
import os
import sys

from fields import answers, questions, write


class Form(html.parser.HTMLParser):
    """The fields that a browser would send back with the form of the model."""

    def __init__(self):
        super().__init__()
        self.fields, self.select, self.area, self.types = {}, None, None, []

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        if tag == "input" and a.get("name") and a.get("type") not in ("submit", "button", "file"):
            if a.get("type") != "checkbox" or "checked" in a:
                default = "y" if a.get("type") == "checkbox" else ""
                self.fields[a["name"]] = a.get("value") or default
        elif tag == "select":
            self.select = a.get("name")
        elif tag == "option" and self.select and "selected" in a:
            self.fields[self.select] = a.get("value", "")
        elif tag == "textarea" and a.get("name"):
            self.area = a["name"]
            self.fields[self.area] = ""

    def handle_data(self, data):
        if self.area:
            self.fields[self.area] += data

    def handle_endtag(self, tag):
        if tag == "select":
            self.select = None
        elif tag == "textarea":
            # A browser drops the line break that follows the tag.
            self.fields[self.area] = self.fields[self.area].lstrip("\r\n")
            self.area = None


def succeeded(response):
    if response.status_code >= 400:
        raise SystemExit("HTTP %d: %s" % (response.status_code, body(response)[-3000:]))
    return response


def body(response):
    return response.get_data(as_text=True) if hasattr(response, "get_data") else response.text


def stored(conn_id):
    """The row's number, and what it holds."""
    from airflow.models import Connection
    from airflow.utils.session import create_session

    with create_session() as session:
        c = session.query(Connection).filter(Connection.conn_id == conn_id).one()
        return c.id, {k: getattr(c, k) for k in ("host", "description", "password", "extra")}


def save_form(client, conn_id):
    """Changes the host in the edit form of 2.x. The answer is what the row holds afterwards."""
    address = "/connection/edit/%d" % stored(conn_id)[0]
    form = Form()
    form.feed(body(succeeded(client.get(address))))
    shown = form.fields["extra"]
    form.fields["host"] = "by-form"
    r = succeeded(client.post(address, data=form.fields))
    if r.status_code != 302:
        raise SystemExit("the form was not saved: %s" % body(r)[-3000:])
    return dict(stored(conn_id)[1], shown=shown)


def save_api(get, patch, conn_id):
    """Sends back what the API shows of the connection with another description, as the UI of 3.x
    does."""
    shown = get("/connections/" + conn_id)
    patch("/connections/" + conn_id, dict(shown, description="by-api"))
    row = stored(conn_id)[1]
    return dict(row, shown=shown["extra"], shown_password=shown.get("password"))


def repair(patch, conn_id):
    """Removes from the extra what the form added, as docs/sealed.md says."""
    known = ("connfs_sealed", "kms_conn_id", "kms_type", "mode", "fields", "kms_extra", "payload")
    extra = json.loads(stored(conn_id)[1]["extra"])
    repaired = json.dumps({k: extra[k] for k in known if k in extra})
    patch("/connections/%s?update_mask=extra" % conn_id,
          {"connection_id": conn_id, "conn_type": "any", "extra": repaired})


def web2(asked):
    with open(os.path.join(os.environ["AIRFLOW_HOME"], "webserver_config.py"), "w") as f:
        f.write("AUTH_ROLE_PUBLIC = 'Admin'\nWTF_CSRF_ENABLED = False\n")
    os.environ["AIRFLOW__WEBSERVER__SECRET_KEY"] = "of a test"
    os.environ["AIRFLOW__API__AUTH_BACKENDS"] = "airflow.api.auth.backend.default"
    from airflow.www.app import create_app

    client = create_app(testing=True).test_client()
    logging.disable(logging.CRITICAL)

    def get(path):
        return json.loads(body(succeeded(client.get("/api/v1" + path))))

    def patch(path, fields):
        succeeded(client.patch("/api/v1" + path, json=fields))

    listed = body(succeeded(client.get("/connection/list/")))
    for conn_id in asked:
        if conn_id not in listed:
            raise SystemExit("%s is not in the list" % conn_id)
    shown = {c["connection_id"] for c in get("/connections")["connections"]}
    for conn_id in asked:
        yield conn_id, conn_id in shown, save_api(get, patch, conn_id), save_form(client, conn_id)
        repair(patch, conn_id)


def web3(asked):
    os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] = "True"
    # A key of SHA-512 must have 64 bytes.
    os.environ["AIRFLOW__API_AUTH__JWT_SECRET"] = "of a test".ljust(64, "-")
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    with TestClient(create_app(), follow_redirects=False) as client:
        logging.disable(logging.CRITICAL)
        token = succeeded(client.get("/auth/token")).json()["access_token"]
        client.headers["Authorization"] = "Bearer " + token

        def get(path):
            return succeeded(client.get("/api/v2" + path)).json()

        def patch(path, fields):
            succeeded(client.patch("/api/v2" + path, json=fields))

        shown = {c["connection_id"] for c in get("/connections")["connections"]}
        for conn_id in asked:
            yield conn_id, conn_id in shown, save_api(get, patch, conn_id), None


def flat(prefix, fields):
    return {"%s_%s" % (prefix, k): v for k, v in fields.items()}


def main():
    out = answers()
    asked = [q["id"] for q in questions()]
    import airflow

    web = web2 if airflow.__version__.startswith("2.") else web3
    for conn_id, listed, api, form in web(asked):
        if not listed:
            write(out, {"id": conn_id, "error": "not listed"})
            continue
        write(out, {"id": conn_id, "fields": dict(flat("api", api), **flat("form", form or {}))})
    out.close()


if __name__ == "__main__":
    main()
