"""A store that is made: nothing of a former one is left in it, and no other database is touched."""

import os
from pathlib import Path

import sqlalchemy

from admm_exp.tracking import store


def test_what_a_former_database_of_the_name_left_is_not_replayed(tmp_path: Path) -> None:
    empty, database = tmp_path / "empty.db", tmp_path / "new" / "mlflow.db"
    empty.write_bytes(b"empty")
    database.parent.mkdir()
    for suffix in ("-journal", "-wal", "-shm"):
        (database.parent / f"mlflow.db{suffix}").write_bytes(b"old")
    store._initialise(database, tmp_path, empty)
    assert [path.name for path in database.parent.iterdir()] == ["mlflow.db"]
    assert database.read_bytes() == b"empty"


def test_no_database_but_the_new_one_is_written_without_waiting_for_the_disk(
    tmp_path: Path,
) -> None:
    def waits(name: str) -> bool:
        engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/{name}")
        with engine.connect() as connection:
            level = connection.execute(sqlalchemy.text("PRAGMA synchronous")).scalar()
        engine.dispose()
        return bool(level)

    with store._without_waiting_for_the_disk(tmp_path / "new.db"):
        (tmp_path / "new.db").touch()
        assert (waits("new.db"), waits("other.db")) == (False, True)


def test_requests_stay_brief_until_the_last_user_is_done() -> None:
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    with store.brief_requests():
        with store.brief_requests():
            pass
        assert os.environ[name] == "1"
    assert name not in os.environ
