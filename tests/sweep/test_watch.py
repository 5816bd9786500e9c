from pathlib import Path

import pytest
from support.runs import row

from admm_exp.sweep.job import Job, begin_job, end_job, job_path, warn_job, write_job
from admm_exp.sweep.terminal import SweepTerminal
from admm_exp.sweep.watch import Watch


def test_warnings_and_failures_of_a_job_are_told_when_they_happen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = job_path(tmp_path, 0)
    write_job(path, Job("rho=1", "abc"))
    with Watch([path], SweepTerminal(1)):
        begin_job(path, tmp_path / "0")
        warn_job(path, "rho is too large")
        end_job(path, "failed", "a bad mood")
    told = capsys.readouterr()
    warning = ["warning", "rho=1:", *["rho", "is", "too", "large"]]
    assert told.out.split() == [*warning, "started", "rho=1"]
    assert told.err.split()[:3] == ["[1/1]", "failed", "rho=1"]
    assert told.err.rstrip().endswith(": a bad mood")


def test_the_end_names_the_command_that_opens_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SweepTerminal(1).where(tmp_path, "http://ann:secret@host:5000", "digits")
    assert capsys.readouterr().out.splitlines()[-1] == (
        "curves   admm-exp-ui experiment_name=digits 'tracking_uri=http://ann:***@host:5000'"
    )


def test_tables_keep_every_digit_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    SweepTerminal(1).finished([row(macs=193_344, status="finished")])
    assert capsys.readouterr().out.splitlines()[2].split() == [
        *("rho=0.01,sparsity=0.5", "96.50%", "96.50%", "86.50%", "193,344", "25.0%", "finished")
    ]


@pytest.mark.parametrize(
    ("started", "words"), [(5.0, ["started", "finished"]), (0.0, ["finished"])], ids=["ran", "not"]
)
def test_a_job_that_ran_between_two_looks_is_told_as_one_that_began(capsys, started, words):
    SweepTerminal(1).job_changed(Job("a", "h", None, status="finished", started=started), None)
    told = capsys.readouterr().out
    assert [word for word in ("started", "finished") if word in told] == words


def test_a_warning_and_a_start_are_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = job_path(tmp_path, 0)
    write_job(path, Job("rho=1", "abc"))
    watch = Watch([path], SweepTerminal(1))
    begin_job(path, tmp_path / "0")
    for message in ("first", "second"):
        warn_job(path, message)
        watch._look()
    end_job(path, "killed")
    watch._look()
    told = capsys.readouterr().out
    assert [told.count(word) for word in ("first", "second", "started", "killed")] == [1, 1, 1, 1]


def test_an_end_that_is_not_told_is_not_told_by_a_look_meanwhile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [job_path(tmp_path, number) for number in range(2)]
    for path in paths:
        write_job(path, Job("rho=1", "abc"))
    watch = Watch(paths, SweepTerminal(2))

    def ended_and_looked_at(path: Path, *words: object) -> None:
        end_job(path, "failed", "no cluster")
        watch._look()

    monkeypatch.setattr("admm_exp.sweep.watch.end_job", ended_and_looked_at)
    watch.close("failed", "no cluster", is_told=False)
    assert capsys.readouterr() == ("", "")


def test_a_name_in_a_store_speaks_to_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal, name = SweepTerminal(1), "a\x1b]0;b\x07\nerror: [bold]\u202e"
    terminal.started(name, Path("x"))
    terminal.job_changed(Job(name, "h", status="failed", error=name), None)
    terminal.finished([row(run_name=name, status="failed", error=name)])
    told = capsys.readouterr()
    lines = (told.out + told.err).splitlines()
    assert all(line.isprintable() and not line.startswith("error") for line in lines)
    assert told.out.count("[bold]") == 2
