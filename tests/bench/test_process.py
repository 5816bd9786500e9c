"""What whole commands cost, from times that are given."""

from pathlib import Path
from time import process_time

import pytest
import torch

from admm_exp.bench import process
from admm_exp.bench.machine import Machine
from admm_exp.bench.measurement import Bench


def test_a_further_job_costs_what_eight_more_take(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[tuple[str, ...]] = []
    times = {"1 job": [5.0, 5.0, 5.0], "9 jobs": [13.0, 21.0, 17.0]}

    def take_turns(actions, rounds, clock):
        assert clock is None
        for action in actions.values():
            action()
        return times

    def command(folder: Path, *arguments: str):
        return lambda: commands.append(arguments)

    monkeypatch.setattr(process, "take_turns", take_turns)
    monkeypatch.setattr(process, "_command", command)
    bench = Bench(True, torch.device("cpu"), tmp_path, Machine(1.0, 1.0))
    [row] = process.overhead(bench)
    assert [target.value for target in row.targets] == [1.5]
    rhos = [next(a for a in given if a.startswith("rho=")) for given in commands]
    assert [rho.count(",") + 1 for rho in rhos] == [1, 9]


def test_the_first_job_is_later_by_what_a_sweep_takes_longer_among_many_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copied: dict[str, int] = {}
    ran: list[str] = []

    def turns(bench, actions, rounds):
        for action in actions.values():
            action()
        return dict(zip(actions, ([6.0, 5.0, 5.5], [6.0, 9.0, 6.75]), strict=True))

    monkeypatch.setattr(process, "_turns", turns)
    monkeypatch.setattr(process, "_command", lambda folder, *_: lambda: ran.append(folder.name))
    monkeypatch.setattr(process, "copy_runs", lambda folder, n: copied.update({folder.name: n}))
    [row] = process.first(Bench(True, torch.device("cpu"), tmp_path, Machine(1.0, 1.0)))
    assert copied == {"0": 0, "10000": 10_000}
    assert ran == ["0", "10000", "0", "10000"]  # once to be stored, then timed
    [target] = row.targets
    assert (target.value, target.bound, target.is_met) == (1.25, 1.0, False)


def test_commands_are_timed_by_the_cpu_time_of_their_processes_where_that_is_asked(
    tmp_path: Path,
) -> None:
    busy = process._command(tmp_path, "-c", "sum(i * i for i in range(3_000_000))")
    idle = process._command(tmp_path, "-c", "import time; time.sleep(1)")
    bench = Bench(True, torch.device("cpu"), tmp_path, Machine(1.0, 1.0), process_time)
    times = process._turns(bench, {"busy": busy, "idle": idle}, 1)
    assert 0.0 < times["idle"][0] < times["busy"][0]
