"""What a person sees while a run goes on, at 80 and 120 columns and in a pipe."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from support.method_toy import config_of

from admm_exp.report.run import latency_sentence, summary_rows
from admm_exp.report.terminal import LINE_SECONDS, Terminal
from admm_exp.results import EpochRecord, PhaseResult


def epoch(number: int) -> EpochRecord:
    return EpochRecord("finetune", number, 0.1, 0.123, 0.9876, None, 1.0)


def drawn(width: int) -> tuple[Terminal, io.StringIO]:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, highlight=False)
    return Terminal(console), file


def bar_at(width: int) -> str:
    terminal, file = drawn(width)
    terminal._steps_per_epoch = 4
    terminal.phase_started("finetune", 32)
    terminal.epoch_finished(epoch(3))
    assert terminal._progress is not None
    terminal._progress.refresh()
    terminal.close()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    return [line for line in re.split(r"[\r\n]", plain) if "3/32" in line][-1]


@pytest.mark.parametrize("width", [80, 120])
def test_bar_count_and_time_left_never_disappear(width: int) -> None:
    line = bar_at(width)
    assert len(line.rstrip()) <= width
    assert re.search(r"finetune +━.* 3/32 epochs +\S+ left +loss 0\.123", line), line
    assert "val 98.76%" in line


def test_a_narrow_terminal_shortens_the_status_alone() -> None:
    line = bar_at(60)
    assert re.search(r"3/32 epochs +\S+ left", line), line
    assert "…" in line


def test_the_bar_moves_within_an_epoch() -> None:
    terminal, _ = drawn(80)
    terminal._steps_per_epoch = 4
    terminal.phase_started("dense", 2)
    assert terminal._progress is not None
    terminal.stepped()
    assert terminal._progress.tasks[0].completed == 0.25
    terminal.close()


def test_every_epoch_is_as_long_as_the_one_before_it() -> None:
    terminal, _ = drawn(80)
    terminal.phase_started("dense", 2)
    for _ in range(5):
        terminal.stepped()
    terminal.epoch_finished(epoch(1))
    assert terminal._steps_per_epoch == 5
    terminal.close()


def test_the_line_says_what_goes_on_after_training() -> None:
    terminal, file = drawn(80)
    terminal.phase_finished(PhaseResult("finetune", 1.0, 2))
    terminal.close()
    assert "measuring accuracy and latency" in file.getvalue()


def test_sentences_are_broken_between_words() -> None:
    terminal, file = drawn(80)
    terminal.warned("alpha beta " * 20)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue()).splitlines()
    assert max(map(len, lines)) <= 80
    assert {word for line in lines for word in line.split()} == {"warning:", "alpha", "beta"}


def test_a_pipe_gets_lines_that_are_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.phase_finished(PhaseResult("finetune", 1.0, 2))
    terminal.warned("word " * 60)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_log_hears_of_a_long_phase_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.phase_started("finetune", 32)
    terminal.epoch_finished(epoch(1))
    assert capsys.readouterr().out == ""
    terminal._told -= LINE_SECONDS
    terminal.epoch_finished(epoch(2))
    assert capsys.readouterr().out == "finetune     2/32 epochs  loss 0.123  val 98.76%\n"


def latency(value: float, spread: float) -> dict[str, dict[str, float]]:
    return {"1": {"value": value, "spread": spread, "rounds": 15}}


def test_a_latency_within_its_spread_is_no_difference() -> None:
    assert "batch 1 no difference measurable (± 10%)" in latency_sentence(latency(0.95, 0.1))
    assert "batch 1 50% (± 10%) of the dense one's" in latency_sentence(latency(0.5, 0.1))


def test_times_of_another_run_are_not_put_beside_those_of_this_one() -> None:
    column = {"test_accuracy": 0.9, "val_accuracy": 0.9, "params": 10, "nonzero_params": 10}
    column |= {"macs": 10, "size_bytes": 10}
    models = {
        name: column | {"latency_ms": {"1": ms}, "latency_spread_ms": {"1": 0.1}}
        for name, ms in (("original", 9.0), ("dense", 2.0), ("pruned", 1.0), ("finetuned", 1.0))
    }
    row = summary_rows(models)[-1]
    assert row == ("latency@1, ms", "", "2 ± 0.1", "", "1 ± 0.1")


def test_the_closing_table_fits_80_columns() -> None:
    column = {"test_accuracy": 0.9, "val_accuracy": 0.9, "params": 77800, "macs": 193_000}
    column |= {"nonzero_params": 77800, "size_bytes": 80_700}
    column |= {"latency_ms": {"32": 12.34}, "latency_spread_ms": {"32": 0.006}}
    small = column | {"params": 19800, "macs": 19_300, "size_bytes": 8_000}
    small |= {"nonzero_params": 19800}
    names = ("dense", "pruned", "recalibrated", "finetuned")
    rows = summary_rows({name: column if name == "dense" else small for name in names})
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    assert sum(widths) + 2 * (len(widths) - 1) <= 80


def test_a_name_is_shown_as_it_stands_and_obeyed_by_nobody() -> None:
    file = io.StringIO()
    name = {"name": "[/bold]\x1b[2J[link=http://x]y"}
    config = replace(config_of(), model=name, dataset=name, metric=name)
    Terminal(Console(file=file, width=500, highlight=False)).started(config)
    assert file.getvalue().count(r"[/bold]\x1b[2J[link=http://x]y") == 3
    assert file.getvalue().strip().isprintable()
