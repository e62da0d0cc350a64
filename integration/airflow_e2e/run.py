#!/usr/bin/env python3
"""Run real Airflow tasks with run_as_user against a mounted file, and judge what they could read.

    sudo python3 run.py VENV MOUNTPOINT [--file c0.json] [--uid 1234] [--denied-uid 1235]
                        [--mode auto|tasks-run|scheduler] [--more] [--keep]

VENV is a virtual environment with apache-airflow (2.x or 3.x) whose interpreter other users can
execute. The mount must let --uid read MOUNTPOINT/--file, and nobody else. Everything that the run
makes (users, sudoers file, AIRFLOW_HOME, processes) is removed at the end; --keep leaves the
directory. It needs nothing but Python's standard library.

With --serve CMD this script starts the mount itself, on the metastore of this run. It does that
when the DAGs are serialized and a connection named after --file is stored. {HOME} and {MOUNT} in
CMD stand for AIRFLOW_HOME and the mountpoint, and CMD has Airflow's own variables (database,
Fernet key) in its environment. For example:

    --serve 'connfs mount --config my.toml --airflow-home {HOME} {MOUNT}'

where my.toml grants c0 to the DAG connfs_e2e: its tasks can read the file then, and those of
connfs_e2e_denied cannot.

Exit status: 0 all tasks ended as they should, 1 a task did not, 2 the machine is not fit.
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
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))

# The DAGs that always run, and the tasks that must have run in them.
BASIC = {
    "connfs_e2e": ["bash_allowed", "python_allowed"],
    "connfs_e2e_denied": ["bash_denied", "python_denied"],
}
MORE = ["connfs_e2e_ways", "connfs_e2e_more"]

# Tasks that must fail. Airflow 2 knows no #uid, and refuses run_as_user in expand.
MUST_FAIL = {"taskflow_denied_raises"}
MUST_FAIL_IN_2 = {"bash_hash_uid", "expand_run_as_user", "expand_run_as_user[0]"}

# Mapped tasks, of which `airflow tasks run` runs the first.
MAPPED = ("shared_mapped", "expand_run_as_user")

ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")
SUDOERS = "/etc/sudoers.d/connfs-airflow-e2e"
FERNET_KEY = "Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm8="


def die(text):
    print("airflow_e2e: " + text, file=sys.stderr)
    sys.exit(2)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def owner(pid):
    """The effective uid of a process, or None if it is gone."""
    try:
        with open("/proc/%s/status" % pid) as f:
            return int(re.search(r"^Uid:\s+\d+\s+(\d+)", f.read(), re.M).group(1))
    except (OSError, AttributeError):
        return None


def as_uid(uid, *command):
    return ["setpriv", "--reuid=%d" % uid, "--regid=%d" % uid, "--clear-groups", *command]


class Run:
    def __init__(self, options):
        self.options = options
        self.began = time.time()
        self.mountpoint = os.path.abspath(options.mountpoint)
        self.file = os.path.join(self.mountpoint, options.file)
        self.conn_id = os.path.splitext(options.file)[0]
        # What clean removes.
        self.daemons, self.made_users = [], []
        self.sudoers = self.server = self.work = None

    def say(self, text):
        print("%6.1f  %s" % (time.time() - self.began, text), flush=True)

    # -- The machine ---------------------------------------------------------------------------

    def prepare(self):
        options = self.options
        self.check_machine()
        self.find_airflow()
        self.work = tempfile.mkdtemp(prefix="airflow-e2e-")
        os.chmod(self.work, 0o755)
        self.worker = self.user("cfe_worker")
        self.allowed = self.user("cfe_allowed", options.uid)
        self.denied = self.user("cfe_denied", options.denied_uid)
        self.home = os.path.join(self.work, "airflow")
        self.out = os.path.join(self.work, "out")
        for directory, mode in ((self.home, 0o777), (self.out, 0o1777)):
            os.mkdir(directory)
            os.chmod(directory, mode)
        worker = pwd.getpwnam(self.worker)
        os.chown(self.home, worker.pw_uid, worker.pw_gid)
        self.copy_dags()
        self.write_sudoers()
        self.env = self.environment()

    def check_machine(self):
        if os.geteuid() != 0:
            die("it needs root, for users and sudoers")
        for tool in ("sudo", "visudo", "useradd", "userdel", "setpriv"):
            if not shutil.which(tool):
                die("%s is missing (Debian: apt-get install sudo passwd util-linux)" % tool)

    def find_airflow(self):
        """Finds out which Airflow VENV holds, and whether another user can run it."""
        self.bin = os.path.join(os.path.abspath(self.options.venv), "bin")
        python = os.path.join(self.bin, "python")
        program = "import importlib.metadata as m; print(m.version('apache-airflow'))"
        r = subprocess.run(as_uid(65534, python, "-c", program), capture_output=True, text=True,
                           cwd="/")
        if r.returncode:
            die("%s does not run apache-airflow for another user. Make the virtual environment "
                "outside of root's home, with an interpreter outside of it (for example "
                "/usr/bin/python3):\n%s" % (python, r.stderr.strip()))
        self.version = r.stdout.strip()
        self.is_3 = int(self.version.split(".")[0]) >= 3
        self.mode = self.options.mode
        if self.mode == "auto":
            self.mode = "scheduler" if self.is_3 else "tasks-run"
        more = self.options.more
        self.dags = MORE[1:] if more == "only" else list(BASIC) + (MORE if more else [])

    def user(self, name, uid=None):
        """The name of the user with this uid. If there is none, it is made, with a home."""
        if uid is not None:
            try:
                return pwd.getpwuid(uid).pw_name
            except KeyError:
                pass
        home = os.path.join(self.work, "home-" + name)
        number = ["--system"] if uid is None else ["--uid", str(uid)]
        subprocess.run(["useradd", "--no-create-home", "--home-dir", home, "--shell", "/bin/sh",
                        "--user-group", *number, name], check=True, stderr=subprocess.DEVNULL)
        self.made_users.append(name)
        os.mkdir(home)
        made = pwd.getpwnam(name)
        os.chown(home, made.pw_uid, made.pw_gid)
        return name

    def copy_dags(self):
        """Copies dags and lib, with the names of this run in place of their @...@."""
        names = {
            "@OUT@": self.out,
            "@FILE@": self.file,
            "@ALLOWED@": self.allowed,
            "@DENIED@": self.denied,
            "@ALLOWED_UID@": str(self.options.uid),
            "@CONN_ID@": self.conn_id,
        }
        for sub in ("dags", "lib"):
            copy = os.path.join(self.home, sub)
            shutil.copytree(os.path.join(HERE, sub), copy,
                            ignore=shutil.ignore_patterns("__pycache__"))
            for name in os.listdir(copy):
                path = os.path.join(copy, name)
                with open(path) as f:
                    text = f.read()
                for placeholder, value in names.items():
                    text = text.replace(placeholder, value)
                with open(path, "w") as f:
                    f.write(text)

    def write_sudoers(self):
        """Lets the worker run tasks as the two users, as Airflow's documentation says."""
        worker = self.worker
        lines = ["Defaults:%s !requiretty" % worker]
        if not self.options.plain_sudo:
            # Without these two, 2.x does not find its `airflow`, and 3.x loses PYTHONPATH.
            lines += ["Defaults:%s !secure_path" % worker,
                      "Defaults:%s env_delete -= PYTHONPATH" % worker]
        lines.append("%s ALL=(%s,%s) NOPASSWD:SETENV: ALL" % (worker, self.allowed, self.denied))
        if not self.is_3:
            # 2.x hands over a copy of its configuration, and removes it, as root.
            lines.append("%s ALL=(root) NOPASSWD:SETENV: %s, %s" %
                         (worker, shutil.which("chown"), shutil.which("rm")))
        draft = os.path.join(self.work, "sudoers")
        with open(draft, "w") as f:
            f.write("\n".join(lines) + "\n")
        os.chmod(draft, 0o440)
        r = subprocess.run(["visudo", "-cf", draft], capture_output=True, text=True)
        if r.returncode:
            die("sudoers: " + r.stdout + r.stderr)
        self.sudoers = SUDOERS
        shutil.copy(draft, SUDOERS)
        os.chmod(SUDOERS, 0o440)

    # -- Airflow's environment -----------------------------------------------------------------

    def environment(self):
        env = {
            "PATH": self.bin + ":/usr/bin:/bin",
            "HOME": pwd.getpwnam(self.worker).pw_dir,
            "USER": self.worker,
            "LOGNAME": self.worker,
            "LANG": "C.UTF-8",
            "PYTHONPATH": os.path.join(self.home, "lib"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONWARNINGS": "ignore",
            "SCARF_ANALYTICS": "false",
            "WORKER_CANARY": "canary",
            "AIRFLOW_HOME": self.home,
            "AIRFLOW_CONN_FROM_ENV": "http://env-host/",
            "AIRFLOW__CORE__DAGS_FOLDER": os.path.join(self.home, "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__FERNET_KEY": FERNET_KEY,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN":
                "sqlite:///" + os.path.join(self.home, "airflow.db"),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": os.path.join(self.home, "logs"),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        env.update(self.environment_of_3() if self.is_3 else self.environment_of_2())
        env.update(self.environment_of_backend())
        if self.mode == "scheduler":
            env["E2E_ONCE"] = ",".join(self.dags)
        for assignment in self.options.env:
            name, _, value = assignment.partition("=")
            env[name] = value
        return env

    @staticmethod
    def environment_of_2():
        return {
            "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor",
            "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o777",
            "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o666",
        }

    @staticmethod
    def environment_of_3():
        port = free_port()
        return {
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://127.0.0.1:%d/execution/" % port,
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        }

    def environment_of_backend(self):
        """The secrets backend that reads files, where --backend asks for it."""
        def section(name, tag):
            arguments = {
                "directory": self.mountpoint,
                "tag": tag,
                "final_deny": self.options.final_deny,
                "sdk_connection": self.options.sdk_connection,
            }
            return {name: "connfs_backend.FileBackend", name + "_KWARGS": json.dumps(arguments)}

        wanted, env = self.options.backend, {}
        if self.is_3 and wanted in ("workers", "both"):
            env.update(section("AIRFLOW__WORKERS__SECRETS_BACKEND", "workers"))
        if wanted in ("secrets", "both") or not self.is_3 and wanted != "none":
            env.update(section("AIRFLOW__SECRETS__BACKEND", "secrets"))
        return env

    # -- Airflow -------------------------------------------------------------------------------

    def as_worker(self, *command):
        worker = pwd.getpwnam(self.worker)
        return ["setpriv", "--reuid=%d" % worker.pw_uid, "--regid=%d" % worker.pw_gid,
                "--init-groups", "--", *command]

    def airflow(self, *arguments, check=True):
        """Runs a command of Airflow as the worker."""
        r = subprocess.run(self.as_worker(os.path.join(self.bin, "airflow"), *arguments),
                           env=self.env, cwd=self.home, capture_output=True, text=True,
                           timeout=120, umask=0)
        if check and r.returncode:
            raise RuntimeError("airflow %s: exit %d\n%s\n%s" % (
                " ".join(arguments), r.returncode, r.stdout[-3000:], r.stderr[-3000:]))
        return r

    def start(self, name):
        """Starts a daemon of Airflow as the worker."""
        with open(os.path.join(self.work, name + ".log"), "wb") as log:
            self.daemons.append(subprocess.Popen(
                self.as_worker(os.path.join(self.bin, "airflow"), name), env=self.env,
                cwd=self.home, stdout=log, stderr=log, start_new_session=True, umask=0))

    def database(self, mode):
        path = os.path.join(self.home, "airflow.db")
        return sqlite3.connect("file:%s?mode=%s" % (path, mode), uri=True, timeout=10)

    def make_metastore(self):
        self.airflow("db", "migrate")
        os.chmod(os.path.join(self.home, "airflow.db"), 0o666)
        self.say("metastore migrated")
        self.airflow("dags", "reserialize")
        database = self.database("ro")
        errors = database.execute("SELECT stacktrace FROM import_error").fetchall()
        database.close()
        if errors:
            raise RuntimeError("DAG files do not import:\n" + errors[0][0])
        self.say("DAGs serialized")
        if self.options.more:
            self.add_connection("in_db", "http://db-host/")
        if self.options.serve:
            self.add_connection(self.conn_id, "postgres://etl:from-the-metastore@db.example/dwh")
        elif self.options.more:
            self.add_connection(self.conn_id, "http://fell-through-to-db/")

    def add_connection(self, conn_id, uri):
        self.airflow("connections", "add", conn_id, "--conn-uri", uri)

    def serve(self):
        """Starts what --serve says, and waits until the allowed user can read the file."""
        command = self.options.serve.replace("{HOME}", self.home)
        command = command.replace("{MOUNT}", self.mountpoint)
        env = {k: v for k, v in self.env.items() if k.startswith("AIRFLOW_")}
        env.update(PATH=os.environ["PATH"], HOME=os.environ.get("HOME", "/"))
        log = os.path.join(self.work, "serve.log")
        with open(log, "wb") as f:
            self.server = subprocess.Popen(["/bin/sh", "-c", "exec " + command], env=env,
                                           stdout=f, stderr=f, start_new_session=True)
        read = as_uid(self.options.uid, "cat", self.file)
        end = time.time() + 30
        while self.server.poll() is None and time.time() < end:
            mounted = os.path.ismount(self.mountpoint)
            if mounted and subprocess.run(read, capture_output=True).returncode == 0:
                self.say("serving: " + command)
                return
            time.sleep(0.1)
        with open(log) as f:
            raise RuntimeError("it does not serve: %s\n%s" % (command, f.read()[-2000:]))

    # -- The tasks -----------------------------------------------------------------------------

    def states(self, dag):
        """The state of each task instance of a DAG."""
        database = self.database("ro")
        try:
            rows = database.execute(
                "SELECT task_id, map_index, state FROM task_instance WHERE dag_id=?", (dag,))
            return {(t if m < 0 else "%s[%d]" % (t, m)): s for t, m, s in rows}
        except sqlite3.OperationalError:
            return {}
        finally:
            database.close()

    def run_scheduler(self):
        """Runs the DAGs by a scheduler, which starts each once, and waits for their end."""
        if self.is_3:
            self.start("api-server")
        if self.options.more:
            self.start("triggerer")
        if self.options.parse:
            self.start("dag-processor")
        self.start("scheduler")
        end = time.time() + self.options.limit
        while True:
            states = {dag: self.states(dag) for dag in self.dags}
            if time.time() > end or all(
                    tasks and all(s in ENDED for s in tasks.values()) for tasks in states.values()):
                return states
            for daemon in self.daemons:
                if daemon.poll() is not None:
                    raise RuntimeError("a daemon ended: %s" % daemon.args)
            time.sleep(0.5)

    def run_tasks(self):
        """Runs the tasks one by one, as a worker of 2.x does. (`airflow tasks test` and
        `airflow dags test` do not impersonate.)"""
        for dag in self.dags:
            self.airflow("dags", "trigger", dag, "-r", "r1")
        self.say("triggered")
        for dag in self.dags:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda task, dag=dag: self.run_task(dag, task), self.tasks_of(dag)))
        return {dag: {t: s for t, s in self.states(dag).items() if s} for dag in self.dags}

    def tasks_of(self, dag):
        if dag in BASIC:
            return BASIC[dag]
        listed = self.airflow("tasks", "list", dag).stdout.split()
        return [t for t in listed if re.match(r"^[a-z_]+$", t) and t != "deferring"]

    def run_task(self, dag, task):
        index = ["--map-index", "0"] if task in MAPPED else []
        r = self.airflow("tasks", "run", dag, task, "r1", "--local", "--ignore-all-dependencies",
                         *index, check=False)
        self.say("tasks run %s: exit %d" % (task, r.returncode))
        if r.returncode or self.options.verbose:
            print(r.stdout[-1500:], r.stderr[-1500:])

    def judge(self, states):
        """Says how each task ended. The result is the exit status."""
        must_fail = MUST_FAIL | (set() if self.is_3 else MUST_FAIL_IN_2)
        bad = 0
        for dag in self.dags:
            for task, state in sorted(states[dag].items()):
                ok = state == ("failed" if task in must_fail else "success")
                self.say("%-4s %s.%s: %s" % ("ok" if ok else "BAD", dag, task, state))
                if not ok:
                    bad += 1
                    self.show_logs(dag, task)
        missing = [t for dag, tasks in BASIC.items() if dag in self.dags
                   for t in tasks if t not in states[dag]]
        if missing:
            self.say("did not run: %s" % missing)
        return 1 if bad or missing else 0

    def show_logs(self, dag, task):
        """Prints the end of each log of a task."""
        for top, _, names in os.walk(os.path.join(self.home, "logs")):
            for name in names:
                path = os.path.join(top, name)
                if "=" + dag in top and task.split("[")[0] in path:
                    with open(path, errors="replace") as f:
                        print("---- %s\n%s" % (path, f.read()[-3000:]), flush=True)

    def go(self):
        options = self.options
        self.prepare()
        self.say("Airflow %s, mode %s, worker %s, allowed %s (%d), denied %s (%d)" % (
            self.version, self.mode, self.worker, self.allowed, options.uid, self.denied,
            options.denied_uid))
        self.make_metastore()
        if options.serve:
            self.serve()
        if options.exec:
            for command in options.exec:
                r = subprocess.run(self.as_worker("/bin/sh", "-c", command), env=self.env,
                                   cwd=self.home, umask=0)
                self.say("exit %d: %s" % (r.returncode, command))
            return 0
        return self.judge(self.run_scheduler() if self.mode == "scheduler" else self.run_tasks())

    # -- The end -------------------------------------------------------------------------------

    def clean(self):
        self.end_daemons()
        self.end_processes_of_made_users()
        if self.sudoers and os.path.exists(self.sudoers):
            os.remove(self.sudoers)
        for name in self.made_users:
            subprocess.run(["userdel", name], stderr=subprocess.DEVNULL)
        if self.work and self.options.keep:
            print("kept: " + self.work)
        elif self.work:
            shutil.rmtree(self.work, ignore_errors=True)

    def end_daemons(self):
        for daemon in self.daemons:
            try:
                os.killpg(daemon.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        if self.server:
            self.server.terminate()
            self.wait_or_kill(self.server, 5)
            subprocess.run(["umount", "-l", self.mountpoint], stderr=subprocess.DEVNULL)
        end = time.time() + 2  # the metastore is thrown away, so they need not finish
        for daemon in self.daemons:
            self.wait_or_kill(daemon, max(0, end - time.time()))

    @staticmethod
    def wait_or_kill(process, seconds):
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def end_processes_of_made_users(self):
        """Kills what ran under sudo, which is in sessions of its own."""
        uids = {pwd.getpwnam(name).pw_uid for name in self.made_users}
        for _ in range(20):
            left = [int(p) for p in os.listdir("/proc") if p.isdigit() and owner(p) in uids]
            if not left:
                return
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.1)


def options():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("venv")
    p.add_argument("mountpoint")
    p.add_argument("--file", default="c0.json")
    p.add_argument("--uid", type=int, default=1234)
    p.add_argument("--denied-uid", type=int, default=1235)
    p.add_argument("--mode", choices=["auto", "tasks-run", "scheduler"], default="auto")
    p.add_argument("--more", nargs="?", const="also", choices=["also", "only"],
                   help="also (or only) hooks, templates, virtualenv, mapped and deferrable tasks")
    p.add_argument("--parse", action="store_true", help="also run a dag-processor")
    p.add_argument("--backend", choices=["none", "workers", "secrets", "both"], default="none",
                   help="configure the secrets backend that reads files")
    p.add_argument("--final-deny", action="store_true",
                   help="it raises AirflowSecretsBackendAccessDenied where Airflow has that")
    p.add_argument("--sdk-connection", action="store_true",
                   help="it returns the Connection of the Task SDK (3.x)")
    p.add_argument("--env", action="append", default=[], metavar="NAME=VALUE",
                   help="a variable in Airflow's environment")
    p.add_argument("--serve", metavar="CMD",
                   help="start the mount with this command, on the metastore of this run")
    p.add_argument("--plain-sudo", action="store_true",
                   help="leave secure_path and env_delete of sudo as the system has them")
    p.add_argument("--exec", action="append", metavar="CMD",
                   help="instead of tasks, run this as the worker, in its environment")
    p.add_argument("--limit", type=float, default=90, metavar="SECONDS",
                   help="how long the tasks may take under a scheduler")
    p.add_argument("--keep", action="store_true", help="leave the directory of the run")
    p.add_argument("--verbose", action="store_true", help="show what each task printed (2.x)")
    return p.parse_args()


def main():
    run = Run(options())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    code = 1
    try:
        code = run.go()
    finally:
        run.clean()
    sys.exit(code)


if __name__ == "__main__":
    main()
