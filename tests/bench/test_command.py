"""The command on one cheap row, and what it refuses."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import clean_environment

from admm_exp.bench import command, registry
from admm_exp.bench.measurement import Bench, Measurement, Target
from admm_exp.bench.registry import Entry


def toy_rows(bench: Bench) -> Iterator[Measurement]:
    (bench.folder / "work").write_text("a place to write")
    row = Measurement(
        "toy", "toy work", {"usual": [2.0, 2.0], "ours": [1.0, 1.0]}, 0.5, "bytes", items=3
    )
    yield row.with_targets(Target("times faster", 2.0, 4.0, is_lower_bound=True))


def test_rows_are_shown_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry.ENTRIES, "toy", Entry("toy", ""))
    monkeypatch.setattr(Entry, "load", lambda entry: toy_rows)
    folder = command.run(["toy"], is_quick=True, device_name="cpu")
    read = json.loads((folder / "bench.json").read_text())
    assert read["rows"][0]["variants"]["ours"]["ratio"] == 0.5
    assert read["machine"]["bytes_per_second"] > 0
    assert (folder / "bench.png").stat().st_size > 0
    shown = capsys.readouterr().out
    assert "missed: times faster 2, at least 4" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["updat"], "error: row 'updat' is unknown; did you mean 'update'?\n"),
        (["--fast"], "error: unrecognized arguments: --fast\n"),
        (["--device=tpu"], "error: device=tpu is not available here, choose one of auto, cpu\n"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["admm-exp-bench", *arguments])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert str(stopped.value).startswith(message.removesuffix("\n"))
    assert not list(tmp_path.iterdir())


def test_help_lists_all_rows_and_loads_no_torch() -> None:
    code = (
        "import sys; from admm_exp.bench.command import main\n"
        "try:\n    main()\nexcept SystemExit:\n    sys.exit('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        env=clean_environment() | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all(f"  {name} " in done.stdout for name in registry.ENTRIES)
    assert max(map(len, done.stdout.splitlines())) <= 80
