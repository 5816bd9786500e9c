"""A process with all imports done, which forks one child for each command that a test runs.

Importing torch, torchvision and MLflow takes longer than most commands of the tests. A child runs
`python -m admm_exp`, or another of the commands, and its exit functions, in its own folder and
environment; what starts up how fast, and imports what, is tested in processes of its own. The first
child that needs an MLflow database builds it, which takes a second; the others copy it.
"""

import atexit
import gc
import importlib
import json
import os
import random
import runpy
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

MOST_SECONDS = 900  # of a command; at load 60 a sweep of four jobs passes 300
MODULES = {
    "admm-exp-plan": "admm_exp.app.plan_command",
    "admm-exp-report": "admm_exp.app.report_command",
    "admm-exp-search": "admm_exp.app.search",
    "admm-exp-sync": "admm_exp.app.sync_command",
}
Done = subprocess.CompletedProcess[str]


class Warm:
    """The client's side: starts the process at the first command."""

    def __init__(self) -> None:
        self.server: subprocess.Popen[str] | None = None

    def run(
        self,
        folder: Path,
        arguments: tuple[str, ...],
        env: Mapping[str, str],
        command: str = "admm-exp",
        before: str = "",
    ) -> Done:
        """Run a command of the package in a folder, as subprocess.run would.

        Args:
            folder: To work in.
            arguments: Of the command.
            env: The whole environment.
            command: Its name.
            before: Python code that its process executes first.
        """
        if self.server is None:
            self.server = subprocess.Popen(
                [sys.executable, "-W", "ignore", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        with tempfile.TemporaryDirectory() as out:
            request = {"folder": str(folder), "arguments": arguments, "env": dict(env), "out": out}
            request |= {"command": command, "before": before}
            print(json.dumps(request), file=self.server.stdin, flush=True)
            code = int(self.server.stdout.readline())
            texts = [Path(out, name).read_text() for name in ("stdout", "stderr")]
        return Done([command, *arguments], code, *texts)

    def close(self) -> None:
        """End the process, if there is one."""
        if self.server is not None:
            self.server.communicate()
            self.server = None


def serve() -> None:
    """Answer every line on stdin with the exit code of the command that it asks for."""
    sys.path.insert(0, str(Path(__file__).parent))
    from kills import preload

    preload()
    importlib.import_module("torchvision")  # what data sets and networks of it load late
    kept = Path(tempfile.mkdtemp())  # a TemporaryDirectory would go with the first child
    try:
        with tables_built_once(kept):
            gc.collect()
            gc.freeze()
            for line in sys.stdin:
                request = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    become(**request)
                _, status = os.waitpid(pid, 0)
                print(os.waitstatus_to_exitcode(status), flush=True)
    finally:
        shutil.rmtree(kept)


@contextmanager
def tables_built_once(kept: Path) -> Iterator[Callable[[Path, Path], None]]:
    """Copy the database that was built first: MLflow's migrations always give the same.

    Args:
        kept: Folder for the database, also of processes that are forked meanwhile.

    Yields:
        What builds the tables anew.
    """
    from admm_exp.tracking import store

    build = store._build_tables

    def copy_tables(database: Path, artifact_root: Path) -> None:
        if not (kept / "mlflow.db").exists():
            building = kept / f"{os.getpid()}.db"
            build(building, artifact_root)
            building.replace(kept / "mlflow.db")
        shutil.copyfile(kept / "mlflow.db", database)
        place = f"{artifact_root.absolute().as_uri()}/0"
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("UPDATE experiments SET artifact_location = ?", (place,))

    store._build_tables = copy_tables
    try:
        yield build
    finally:
        store._build_tables = build


def become(
    folder: str, arguments: list[str], env: dict[str, str], out: str, command: str, before: str
) -> None:
    """Be a command of the package from here on, and never return."""
    os.setsid()
    signal.alarm(MOST_SECONDS)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:1] = [folder, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    random.seed()
    for stream, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(Path(out, name), os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(file, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if env.get("PYTHONWARNINGS") == "error":
        warnings.simplefilter("error")
    sys.argv = [command, *arguments]
    code = 1
    try:
        exec(before, {})
        if command in MODULES:
            importlib.import_module(MODULES[command]).main()
        else:
            runpy.run_module("admm_exp", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # freeing all modules takes longer than a refused command


if __name__ == "__main__":
    serve()
