import json
import os
from pathlib import Path

from admm_exp.sweep.finished import FinishedReports


def write_report(folder: Path, key: str, run_id: str | None, status: str = "finished") -> Path:
    folder.mkdir(parents=True)
    report = {"status": status, "config_hash": key, "mlflow": {"run_id": run_id}}
    (folder / "report.json").write_text(json.dumps(report))
    return folder / "report.json"


def test_the_finished_reports_of_a_configuration_are_found_oldest_first(tmp_path: Path) -> None:
    old = write_report(tmp_path / "old", "a", "1")
    new = write_report(tmp_path / "new", "a", "2")
    os.utime(old, (1, 1))
    write_report(tmp_path / "bad", "b", "3", status="running")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "report.json").write_text('{"status": "fin')
    found = FinishedReports(tmp_path.iterdir())
    assert [(report.run_id, report.path) for report in found.of(["a"])] == [("1", old), ("2", new)]
    assert list(found.of(["b", "c"])) == []


def test_a_report_is_read_whole_only_if_its_hash_is_asked_for(tmp_path: Path) -> None:
    write_report(tmp_path / "one", "a", "1")
    (tmp_path / "two").mkdir()
    damaged = tmp_path / "two" / "report.json"
    damaged.write_text('{"config_hash": "b", "status": "finished", "mlflow"')
    found = FinishedReports(tmp_path.iterdir())
    damaged.unlink()
    assert [report.config_hash for report in found.of(["a"])] == ["a"]


def test_a_report_whose_first_line_names_another_hash_than_it_holds_is_not_taken(
    tmp_path: Path,
) -> None:
    path = write_report(tmp_path / "one", "b", "1")
    path.write_text('{"config_hash": "a", ' + path.read_text()[1:])  # the last of two counts
    assert list(FinishedReports(tmp_path.iterdir()).of(["a"])) == []
