#!/usr/bin/env python3
"""Run real Airflow tasks with run_as_user against a mounted file, and judge what they could read.

    sudo python3 run.py VENV MOUNTPOINT [--file c0.json] [--uid 1234] [--denied-uid 1235]
                        [--mode auto|tasks-run|scheduler] [--more] [--keep]

With --serve the mount is started by this script, on the metastore that this run made: after the DAGs are serialized and
a connection named after --file is stored. {HOME} and {MOUNT} in CMD stand for AIRFLOW_HOME and the mountpoint, and CMD has
Airflow's own variables (database, Fernet key) in its environment, for example
    --serve 'connfs mount --config my.toml --airflow-home {HOME} {MOUNT}'
where my.toml grants c0 to the DAG connfs_e2e: its tasks then read, and those of connfs_e2e_denied do not.

VENV is a virtual environment with apache-airflow (2.x or 3.x) whose interpreter other users can execute.
The mount must let --uid read MOUNTPOINT/--file and nobody else. Everything the run makes (users, sudoers file,
AIRFLOW_HOME, processes) is removed at the end; --keep leaves the directory. Standard library only.

Exit: 0 all tasks ended as they should, 1 a task did not, 2 the machine is not fit.
"""
import argparse
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
BASIC = {"connfs_e2e": ["bash_allowed", "python_allowed"], "connfs_e2e_denied": ["bash_denied", "python_denied"]}
MUST_FAIL = {"taskflow_denied_raises"}
FAIL_IN_2 = {"bash_hash_uid", "expand_run_as_user", "expand_run_as_user[0]"}  # 2.x knows no #uid, and refuses run_as_user in expand


def die(text):
    print("airflow_e2e: " + text, file=sys.stderr)
    sys.exit(2)


class Run:
    def __init__(self, a):
        self.a, self.procs, self.made_users, self.t0 = a, [], [], time.time()
        self.sudoers = self.server = None
        self.work = None

    def say(self, text):
        print("%6.1f  %s" % (time.time() - self.t0, text), flush=True)

    # -- the machine ------------------------------------------------------------------------------------------
    def user(self, name, uid=None):
        """A user with this uid (an existing one is used as it is), with a home of its own."""
        if uid is not None:
            try:
                return pwd.getpwuid(uid).pw_name
            except KeyError:
                pass
        home = os.path.join(self.work, "home-" + name)
        subprocess.run(["useradd", "--no-create-home", "--home-dir", home, "--shell", "/bin/sh", "--user-group"]
                       + (["--uid", str(uid)] if uid is not None else ["--system"]) + [name], check=True, stderr=subprocess.DEVNULL)
        self.made_users.append(name)
        os.mkdir(home)
        p = pwd.getpwnam(name)
        os.chown(home, p.pw_uid, p.pw_gid)
        return name

    def prepare(self):
        a = self.a
        if os.geteuid() != 0:
            die("needs root (useradd, sudoers)")
        for tool in ("sudo", "visudo", "useradd", "userdel", "setpriv"):
            if not shutil.which(tool):
                die("needs %s (Debian: apt-get install sudo passwd util-linux)" % tool)
        self.bin = os.path.join(os.path.abspath(a.venv), "bin")
        self.python = os.path.join(self.bin, "python")
        r = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", self.python, "-c",
                            "import importlib.metadata as m; print(m.version('apache-airflow'))"], capture_output=True, text=True, cwd="/")
        if r.returncode:
            die("%s does not run apache-airflow for another user; make the virtual environment outside root's home, with an "
                "interpreter outside it (for example /usr/bin/python3):\n%s" % (self.python, r.stderr.strip()))
        self.ver = r.stdout.strip()
        self.V = tuple(int(x) for x in re.match(r"(\d+)\.(\d+)", self.ver).groups())
        self.mode = a.mode if a.mode != "auto" else "tasks-run" if self.V < (3, 0) else "scheduler"
        self.dags = ["connfs_e2e_more"] if a.more == "only" else list(BASIC) + (["connfs_e2e_ways", "connfs_e2e_more"] if a.more else [])
        self.file = os.path.join(os.path.abspath(a.mountpoint), a.file)
        self.work = tempfile.mkdtemp(prefix="airflow-e2e-")
        os.chmod(self.work, 0o755)
        self.worker = self.user("cfe_worker")
        self.allowed = self.user("cfe_allowed", a.uid)
        self.denied = self.user("cfe_denied", a.denied_uid)
        self.home, self.out = os.path.join(self.work, "airflow"), os.path.join(self.work, "out")
        for d, mode in ((self.home, 0o777), (self.out, 0o1777)):
            os.mkdir(d)
            os.chmod(d, mode)
        w = pwd.getpwnam(self.worker)
        os.chown(self.home, w.pw_uid, w.pw_gid)
        for sub in ("dags", "lib"):
            dst = os.path.join(self.home, sub)
            shutil.copytree(os.path.join(HERE, sub), dst, ignore=shutil.ignore_patterns("__pycache__"))
            for n in os.listdir(dst):
                p = os.path.join(dst, n)
                with open(p) as f:
                    text = f.read()
                for k, v in (("@OUT@", self.out), ("@FILE@", self.file), ("@ALLOWED@", self.allowed), ("@DENIED@", self.denied), ("@ALLOWED_UID@", str(a.uid)), ("@CONN_ID@", os.path.splitext(a.file)[0])):
                    text = text.replace(k, v)
                with open(p, "w") as f:
                    f.write(text)
        self.write_sudoers()
        self.write_env()

    def write_sudoers(self):
        a = self.a
        lines = ["Defaults:%s !requiretty" % self.worker]
        if not a.plain_sudo:
            # without these two, 2.x does not find its `airflow` and 3.x loses PYTHONPATH
            lines += ["Defaults:%s !secure_path" % self.worker, "Defaults:%s env_delete -= PYTHONPATH" % self.worker]
        lines.append("%s ALL=(%s,%s) NOPASSWD:SETENV: ALL" % (self.worker, self.allowed, self.denied))
        if self.V < (3, 0):
            # the copy of the configuration is handed over, and removed, as root
            lines.append("%s ALL=(root) NOPASSWD:SETENV: %s, %s" % (self.worker, shutil.which("chown"), shutil.which("rm")))
        path = "/etc/sudoers.d/connfs-airflow-e2e"
        tmp = os.path.join(self.work, "sudoers")
        with open(tmp, "w") as f:
            f.write("\n".join(lines) + "\n")
        os.chmod(tmp, 0o440)
        r = subprocess.run(["visudo", "-cf", tmp], capture_output=True, text=True)
        if r.returncode:
            die("sudoers: " + r.stdout + r.stderr)
        self.sudoers = path
        shutil.copy(tmp, path)
        os.chmod(path, 0o440)

    def write_env(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            trig_port = s.getsockname()[1]
        db = "sqlite:///" + os.path.join(self.home, "airflow.db")
        a = self.a
        kw = json.dumps({"directory": os.path.dirname(self.file), "tag": "secrets", "final_deny": a.final_deny, "sdk_connection": a.sdk_connection})
        wkw = json.dumps({"directory": os.path.dirname(self.file), "tag": "workers", "final_deny": a.final_deny, "sdk_connection": a.sdk_connection})
        e = {"PATH": self.bin + ":/usr/bin:/bin", "HOME": pwd.getpwnam(self.worker).pw_dir, "USER": self.worker, "LOGNAME": self.worker, "LANG": "C.UTF-8",
             "AIRFLOW_HOME": self.home, "PYTHONPATH": os.path.join(self.home, "lib"), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore",
             "AIRFLOW__CORE__DAGS_FOLDER": os.path.join(self.home, "dags"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
             "AIRFLOW__CORE__FERNET_KEY": "Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm8=", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": db,
             "AIRFLOW__LOGGING__BASE_LOG_FOLDER": os.path.join(self.home, "logs"), "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False", "SCARF_ANALYTICS": "false",
             "WORKER_CANARY": "canary", "AIRFLOW_CONN_FROM_ENV": "http://env-host/"}
        if self.V >= (3, 0):
            e.update({"AIRFLOW__CORE__EXECUTOR": "LocalExecutor", "AIRFLOW__CORE__PARALLELISM": "4", "AIRFLOW__API__PORT": str(self.port), "AIRFLOW__API__WORKERS": "1",
                      "AIRFLOW__API__HOST": "127.0.0.1", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://127.0.0.1:%d/execution/" % self.port,
                      "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(48), "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
                      "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1", "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trig_port)})
            if self.a.backend in ("workers", "both"):
                e.update({"AIRFLOW__WORKERS__SECRETS_BACKEND": "connfs_backend.FileBackend", "AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS": wkw})
            if self.a.backend in ("secrets", "both"):
                e.update({"AIRFLOW__SECRETS__BACKEND": "connfs_backend.FileBackend", "AIRFLOW__SECRETS__BACKEND_KWARGS": kw})
        else:
            e.update({"AIRFLOW__CORE__EXECUTOR": "SequentialExecutor", "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o777",
                      "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o666"})
            if self.a.backend != "none":
                e.update({"AIRFLOW__SECRETS__BACKEND": "connfs_backend.FileBackend", "AIRFLOW__SECRETS__BACKEND_KWARGS": kw})
        if self.mode == "scheduler":
            e["E2E_ONCE"] = ",".join(self.dags)
        for kv in self.a.env:
            k, _, v = kv.partition("=")
            e[k] = v
        self.env = e

    # -- Airflow ----------------------------------------------------------------------------------------------
    def as_worker(self, *cmd):
        w = pwd.getpwnam(self.worker)
        return ["setpriv", "--reuid=%d" % w.pw_uid, "--regid=%d" % w.pw_gid, "--init-groups", "--"] + list(cmd)

    def airflow(self, *args, timeout=120, check=True):
        r = subprocess.run(self.as_worker(os.path.join(self.bin, "airflow"), *args), env=self.env, cwd=self.home, capture_output=True, text=True, timeout=timeout, umask=0)
        if check and r.returncode:
            raise RuntimeError("airflow %s: exit %d\n%s\n%s" % (" ".join(args), r.returncode, r.stdout[-3000:], r.stderr[-3000:]))
        return r

    def daemon(self, name, *args):
        log = open(os.path.join(self.work, name + ".log"), "wb")
        self.procs.append(subprocess.Popen(self.as_worker(os.path.join(self.bin, "airflow"), *args), env=self.env, cwd=self.home, stdout=log, stderr=log,
                                           start_new_session=True, umask=0))

    def serve(self):
        mount = os.path.abspath(self.a.mountpoint)
        cmd = self.a.serve.replace("{HOME}", self.home).replace("{MOUNT}", mount)
        log = open(os.path.join(self.work, "serve.log"), "wb")
        env = dict({k: v for k, v in self.env.items() if k.startswith("AIRFLOW_")}, PATH=os.environ["PATH"], HOME=os.environ.get("HOME", "/"))
        self.server = subprocess.Popen(["/bin/sh", "-c", "exec " + cmd], env=env, stdout=log, stderr=log, start_new_session=True)
        read = ["setpriv", "--reuid=%d" % self.a.uid, "--regid=%d" % self.a.uid, "--clear-groups", "cat", self.file]
        end = time.time() + 30
        while self.server.poll() is None and time.time() < end:
            if os.path.ismount(mount) and subprocess.run(read, capture_output=True).returncode == 0:
                self.say("serving: " + cmd)
                return
            time.sleep(0.1)
        with open(os.path.join(self.work, "serve.log")) as f:
            raise RuntimeError("does not serve: %s\n%s" % (cmd, f.read()[-2000:]))

    def states(self, dag):
        con = sqlite3.connect("file:%s?mode=ro" % os.path.join(self.home, "airflow.db"), uri=True, timeout=10)
        try:
            return {(t if m < 0 else "%s[%d]" % (t, m)): s for t, m, s in
                    con.execute("SELECT task_id, map_index, state FROM task_instance WHERE dag_id=?", (dag,))}
        except sqlite3.OperationalError:
            return {}
        finally:
            con.close()

    def wait(self, dags, limit):
        end = time.time() + limit
        while time.time() < end:
            st = {d: self.states(d) for d in dags}
            if all(v and all(s in ("success", "failed", "skipped", "upstream_failed", "removed") for s in v.values()) for v in st.values()):
                return st
            for p in self.procs:
                if p.poll() is not None:
                    raise RuntimeError("a daemon ended: %s" % p.args)
            time.sleep(0.5)
        return st

    def go(self):
        a = self.a
        self.prepare()
        self.say("Airflow %s, mode %s, worker %s, allowed %s (%d), denied %s (%d)" % (self.ver, self.mode, self.worker, self.allowed, a.uid, self.denied, a.denied_uid))
        self.airflow("db", "migrate")
        os.chmod(os.path.join(self.home, "airflow.db"), 0o666)
        self.say("metastore migrated")
        dags = self.dags
        self.airflow("dags", "reserialize")
        con = sqlite3.connect(os.path.join(self.home, "airflow.db"))
        errors = con.execute("SELECT stacktrace FROM import_error").fetchall()
        con.close()
        if errors:
            raise RuntimeError("DAG files do not import:\n" + errors[0][0])
        self.say("DAGs serialized")
        if a.more:
            self.airflow("connections", "add", "in_db", "--conn-uri", "http://db-host/")
            self.airflow("connections", "add", os.path.splitext(a.file)[0], "--conn-uri", "http://fell-through-to-db/")
        if a.serve:
            self.airflow("connections", "add", os.path.splitext(a.file)[0], "--conn-uri", "postgres://etl:from-the-metastore@db.example/dwh")
            self.serve()
        if a.exec:
            for cmd in a.exec:
                r = subprocess.run(self.as_worker("/bin/sh", "-c", cmd), env=self.env, cwd=self.home, umask=0)
                self.say("exit %d: %s" % (r.returncode, cmd))
            return 0
        if self.mode == "scheduler":
            if self.V >= (3, 0):
                self.daemon("api-server", "api-server")
            if a.more:
                self.daemon("triggerer", "triggerer")
            if a.parse:
                self.daemon("dag-processor", "dag-processor")
            self.daemon("scheduler", "scheduler")
        else:
            for d in dags:
                self.airflow("dags", "trigger", d, "-r", "r1")
            self.say("triggered")
        if self.mode == "tasks-run":
            for d in dags:
                ids = BASIC[d] if d in BASIC else [t for t in self.airflow("tasks", "list", d).stdout.split() if re.match(r"^[a-z_]+$", t) and t != "deferring"]

                def one(t):
                    extra = ["--map-index", "0"] if t in ("shared_mapped", "expand_run_as_user") else []
                    r = self.airflow("tasks", "run", d, t, "r1", "--local", "--ignore-all-dependencies", *extra, check=False)
                    self.say("tasks run %s: exit %d" % (t, r.returncode))
                    if r.returncode or a.verbose:
                        print(r.stdout[-1500:], r.stderr[-1500:])

                with ThreadPoolExecutor(2) as pool:
                    list(pool.map(one, ids))
            st = {d: {k: v for k, v in self.states(d).items() if v} for d in dags}
        else:
            st = self.wait(dags, a.limit)
        must_fail = MUST_FAIL | (FAIL_IN_2 if self.V < (3, 0) else set())
        bad = 0
        for d in dags:
            for t, s in sorted(st[d].items()):
                ok = s == ("failed" if t in must_fail else "success")
                bad += not ok
                self.say("%-4s %s.%s: %s" % ("ok" if ok else "BAD", d, t, s))
                if not ok:
                    self.show_logs(d, t)
        missing = [t for d in BASIC if d in dags for t in BASIC[d] if t not in st[d]]
        if missing:
            self.say("did not run: %s" % missing)
        return 1 if bad or missing else 0

    def show_logs(self, dag, task):
        """The end of each log of a task that ended as it should not."""
        for top, _, names in os.walk(os.path.join(self.home, "logs")):
            for name in names:
                if "=" + dag in top and task.split("[")[0] in os.path.join(top, name):
                    with open(os.path.join(top, name), errors="replace") as f:
                        print("---- %s\n%s" % (os.path.join(top, name), f.read()[-3000:]), flush=True)

    def clean(self):
        for p in self.procs:
            try:
                os.killpg(p.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        if self.server:
            self.server.terminate()
            try:
                self.server.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.server.pid, signal.SIGKILL)
                self.server.wait()
            subprocess.run(["umount", "-l", os.path.abspath(self.a.mountpoint)], stderr=subprocess.DEVNULL)
        end = time.time() + 2  # the metastore is thrown away: no need to let them finish
        for p in self.procs:
            try:
                p.wait(max(0, end - time.time()))
            except subprocess.TimeoutExpired:
                os.killpg(p.pid, signal.SIGKILL)
                p.wait()
        # what ran under sudo has sessions of its own: end what still belongs to the users made here
        uids = set()
        for u in self.made_users:
            uids.add(pwd.getpwnam(u).pw_uid)
        for _ in range(20):
            left = [int(p) for p in os.listdir("/proc") if p.isdigit() and self.owner(p) in uids]
            if not left:
                break
            for p in left:
                try:
                    os.kill(p, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.1)
        if self.sudoers and os.path.exists(self.sudoers):
            os.remove(self.sudoers)
        for u in self.made_users:
            subprocess.run(["userdel", u], stderr=subprocess.DEVNULL)
        if self.work:
            if self.a.keep:
                print("kept: " + self.work)
            else:
                shutil.rmtree(self.work, ignore_errors=True)

    @staticmethod
    def owner(pid):
        try:
            with open("/proc/%s/status" % pid) as f:
                return int(re.search(r"^Uid:\s+\d+\s+(\d+)", f.read(), re.M).group(1))
        except (OSError, AttributeError):
            return None


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("venv")
    p.add_argument("mountpoint")
    p.add_argument("--file", default="c0.json")
    p.add_argument("--uid", type=int, default=1234)
    p.add_argument("--denied-uid", type=int, default=1235)
    p.add_argument("--mode", choices=["auto", "tasks-run", "scheduler"], default="auto")
    p.add_argument("--more", nargs="?", const="also", choices=["also", "only"], help="also (or only) hooks, templates, virtualenv, mapped and deferrable tasks")
    p.add_argument("--parse", action="store_true", help="also run a dag-processor")
    p.add_argument("--backend", choices=["none", "workers", "secrets", "both"], default="none", help="configure the file-reading secrets backend")
    p.add_argument("--final-deny", action="store_true", help="the backend raises AirflowSecretsBackendAccessDenied where Airflow has it")
    p.add_argument("--sdk-connection", action="store_true", help="the backend returns the Task SDK's Connection (3.x)")
    p.add_argument("--env", action="append", default=[], metavar="K=V")
    p.add_argument("--serve", metavar="CMD", help="start the mount with this command, on this run's metastore")
    p.add_argument("--plain-sudo", action="store_true", help="leave secure_path and env_delete as the system has them")
    p.add_argument("--exec", action="append", metavar="CMD", help="instead of running tasks, run this as the worker, in its environment")
    p.add_argument("--limit", type=float, default=90)
    p.add_argument("--keep", action="store_true")
    p.add_argument("--verbose", action="store_true")
    r = Run(p.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    code = 1
    try:
        code = r.go()
    finally:
        r.clean()
    sys.exit(code)


if __name__ == "__main__":
    main()
