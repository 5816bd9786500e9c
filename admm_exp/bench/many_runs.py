"""A store of many runs in seconds: one finished run is copied by SQL, with other settings.

python -m admm_exp.bench.many_runs FOLDER COUNT    # FOLDER/outputs holds a finished run
"""

import json
import random
import shutil
import sqlite3
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

RHOS = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1]
SPARSITIES = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
TABLES = ("params", "tags", "latest_metrics", "metrics")
RUN_SECONDS = 20
MANY = Path("outputs", "sweeps", "many")


def copy_runs(folder: Path, count: int) -> None:
    """Copy the newest finished run of a store until there are `count` more, in one transaction.

    Every copy has settings, a configuration hash, accuracies, a folder and a report of its own;
    its rows are as many as those of the run that it copies. Called again, it goes on where it
    stopped: the same copies are made by one call and by several.

    Args:
        folder: Where commands ran; `outputs` lies in it.
        count: Number of copies.
    """
    database = folder / "outputs" / "mlflow.db"
    first = sum(1 for _ in (folder / MANY).glob("*"))  # ids come from the number
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        copies = {copy["run_id"] for copy in _settings(0, first)}
        finished = connection.execute(
            "SELECT r.* FROM runs r JOIN tags t USING (run_uuid) WHERE status = 'FINISHED' AND "
            "t.key = 'kind' AND t.value = 'run' ORDER BY start_time DESC"
        )
        original = next(dict(row) for row in finished if row["run_uuid"] not in copies)
        rows = {
            table: [
                dict(row)
                for row in connection.execute(
                    f"SELECT * FROM {table} WHERE run_uuid = ?", (original["run_uuid"],)
                )
            ]
            for table in TABLES
        }
        run_dir = Path(next(r["value"] for r in rows["tags"] if r["key"] == "run_dir"))
        report = json.loads((run_dir / "report.json").read_text())
        for copy in _settings(first, count):
            _insert(connection, original, rows, copy)
            _write(copy, folder, report)
        connection.commit()


def _settings(first: int, count: int) -> Iterator[dict[str, Any]]:
    for index in range(first, first + count):
        choice = random.Random(index)
        yield {
            "number": index,
            "run_id": uuid.UUID(int=choice.getrandbits(128)).hex,
            "config_hash": uuid.UUID(int=choice.getrandbits(128)).hex[:16],
            "rho": RHOS[index % 6],
            "sparsity": SPARSITIES[index // 6 % 6],
            "seed": index // 36,
            "accuracy": round(choice.uniform(0.9, 1.0), 6),
            "val_accuracy": round(choice.uniform(0.9, 1.0), 6),
        }


def _insert(
    connection: sqlite3.Connection,
    original: dict[str, Any],
    rows: dict[str, list[dict[str, Any]]],
    copy: dict[str, Any],
) -> None:
    shift = (copy["number"] + 1) * 1000 * RUN_SECONDS
    artifacts = original["artifact_uri"].replace(original["run_uuid"], copy["run_id"])
    name = f"rho={copy['rho']},sparsity={copy['sparsity']}"
    changed = {"run_uuid": copy["run_id"], "artifact_uri": artifacts, "name": name}
    times = {name: original[name] + shift for name in ("start_time", "end_time")}
    _add(connection, "runs", [original | changed | times])
    values = {
        "params": {key: str(copy[key]) for key in ("rho", "sparsity", "seed")},
        "tags": {"config_hash": copy["config_hash"], "mlflow.runName": name},
        "latest_metrics": {f"final/{key}": copy[key] for key in ("accuracy", "val_accuracy")},
    }
    values["metrics"] = values["latest_metrics"]
    for table, known in rows.items():
        new = [
            row | {"run_uuid": copy["run_id"], "value": values[table].get(row["key"], row["value"])}
            for row in known
        ]
        _add(connection, table, new)


def _add(connection: sqlite3.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    quoted = ", ".join(f'"{name}"' for name in names)
    places = ", ".join(f":{name}" for name in names)
    connection.executemany(f"INSERT INTO {table} ({quoted}) VALUES ({places})", rows)


def _write(copy: dict[str, Any], folder: Path, report: dict[str, Any]) -> None:
    own = {"config_hash": copy["config_hash"], "seed": copy["seed"]}
    changed = report | own | {"mlflow": report["mlflow"] | {"run_id": copy["run_id"]}}
    run_dir = folder / MANY / str(copy["number"])
    artifacts = folder / "outputs" / "artifacts" / copy["run_id"] / "artifacts"
    for place in (run_dir, artifacts):
        place.mkdir(parents=True, exist_ok=True)
    (run_dir / "report.json").write_text(json.dumps(changed, indent=1))
    shutil.copy(run_dir / "report.json", artifacts)


if __name__ == "__main__":
    start = time.perf_counter()
    copy_runs(Path(sys.argv[1]).absolute(), int(sys.argv[2]))
    print(f"{sys.argv[2]} runs in {time.perf_counter() - start:.1f} s")
