"""What a person sees while a run goes on: one live line a phase, one table at the end."""

from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from admm_exp.config.settings import ExperimentConfig, amounts
from admm_exp.pruning.budget.planner import Plan
from admm_exp.pruning.cost.latency import LatencyRatio
from admm_exp.report.run import latency_sentence, summary_rows, surgery_sentence
from admm_exp.report.wording import count, one_line
from admm_exp.results import PROGRAM, WEIGHTS, EpochRecord, IterationRecord, PhaseResult
from admm_exp.tracking.address import ui_command

WIDE = 1000
"""Columns of a file or a pipe: lines there are not wrapped."""
REFRESH_SECONDS = 0.1
LINE_SECONDS = 30.0
"""A log is told of a long phase so often."""
BETWEEN = {
    "dense": "measuring the dense network",
    "admm": "measuring what a cut costs",
    "prune": "measuring the small network",
    "finetune": "measuring accuracy and latency, exporting, writing the report",
}
"""What goes on after a phase."""


class Terminal:
    """Show phases as they happen: live bars on a terminal, one line a phase elsewhere.

    Args:
        console: Where to write; standard output if None.
        between: What goes on after a phase, by its name.
        steps_per_epoch: Optimizer steps that an epoch is expected to take; 0 if unknown.
        shows_warnings: Whether a warning is shown; False where somebody else does.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        between: Mapping[str, str] = BETWEEN,
        steps_per_epoch: int = 0,
        shows_warnings: bool = True,
    ) -> None:
        self.console = console or _standard_output()
        self._between, self._shows_warnings = between, shows_warnings
        self._progress: Progress | None = None
        self._steps_per_epoch, self._steps, self._shown = steps_per_epoch, 0, 0.0
        self._phase, self._epochs, self._told = "", 0, monotonic()
        self._epochs_over = 0
        self._last: EpochRecord | None = None
        self._iteration: IterationRecord | None = None

    def started(self, config: ExperimentConfig, steps_per_epoch: int = 0) -> None:
        """Say what is about to run.

        Args:
            config: The settings.
            steps_per_epoch: Optimizer steps that an epoch is expected to take; 0 if unknown.
        """
        self._steps_per_epoch = steps_per_epoch
        method = config.method["name"]
        rho = f"rho {config.rho}, " if method == "admm" else ""
        amount = ", ".join(f"{name} {value}" for name, value in amounts(config).items())
        said = (
            f" on {config.dataset['name']}: {method}, {amount}, "
            f"{rho}{config.metric['name']}, seed {config.seed}"
        )
        model = one_line(str(config.model["name"]))
        self.console.print(Text.assemble((model, "bold"), one_line(said)))

    def phase_started(self, name: str, epochs: int) -> None:
        """Open the phase's bar."""
        self._last = self._iteration = None
        self._epochs_over = self._steps = 0
        self._phase, self._epochs, self._told = name, epochs, monotonic()
        self.close()
        if self.console.is_terminal:
            self._progress = _bar(self.console) if epochs else _spinner(self.console)
            self._progress.add_task(name, total=epochs or None, status="", over=0)
            self._progress.start()

    def stepped(self) -> None:
        """Move the bar within an epoch, ten times a second at most."""
        self._steps += 1
        if self._progress is None or not self._steps_per_epoch:
            return
        now = monotonic()
        if now - self._shown >= REFRESH_SECONDS:
            self._shown = now
            part = min(self._steps / self._steps_per_epoch, 1.0)
            self._progress.update(self._progress.task_ids[0], completed=self._epochs_over + part)

    def working(self, what: str) -> None:
        """Say what goes on while nothing trains."""
        self.close()
        if self.console.is_terminal:
            self._progress = _spinner(self.console)
            self._progress.add_task(what, total=None, status="")
            self._progress.start()

    def epoch_finished(self, record: EpochRecord) -> None:
        """Move the bar on."""
        self._last, self._epochs_over = record, record.epoch
        self._steps_per_epoch = self._steps or self._steps_per_epoch
        self._steps = 0
        if self._progress is not None:
            task = self._progress.task_ids[0]
            status = self._status()
            self._progress.update(task, completed=record.epoch, over=record.epoch, status=status)
        elif monotonic() - self._told >= LINE_SECONDS and record.epoch < self._epochs:
            self._told = monotonic()
            place = f"{record.epoch}/{self._epochs} epochs"
            self.console.print(f"{self._phase:<11}  {place}  {self._status()}")

    def iteration_finished(self, record: IterationRecord) -> None:
        """Show the residuals of an ADMM iteration."""
        self._iteration = record
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], status=self._status())

    def phase_finished(self, result: PhaseResult) -> None:
        """Leave one line behind."""
        self.close()
        epochs = f"{result.epochs} epochs" if result.epochs else ""
        if result.cached:
            epochs = "reused from the cache"
        parts = [f"[bold]{result.name:<11}[/]", f"{result.seconds:6.1f} s", epochs, self._status()]
        self.console.print("  ".join(part for part in parts if part))
        if what := self._between.get(result.name):
            self.working(what)

    def warned(self, message: str) -> None:
        """Say it above the bar."""
        if self._shows_warnings:
            self._say(f"warning: {message}", style="yellow")

    def close(self) -> None:
        """Take the bar away, also when a run ends early."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def finished(self, report: Mapping[str, Any], run_dir: Path) -> None:
        """Show the table dense | after the cut | finetuned and where to look next."""
        self.close()
        header, *rows = summary_rows(report["models"])
        table = Table(header_style="bold", box=None, pad_edge=False)
        for index, title in enumerate(header):
            side: Any = "left" if index == 0 else "right"
            table.add_column(title, justify=side, no_wrap=True)
        for row in rows:
            table.add_row(*row)
        self.console.print()
        self.console.print(table)
        self.console.print()
        self._say(
            f"Accuracy before the cut {report['admm']['test_accuracy']:.2%}. "
            f"{surgery_sentence(report['surgery'])}"
        )
        if latency := report.get("latency"):
            self._say(latency_sentence(latency))
        lines = [f"report   {run_dir / 'report.md'}", f"network  {run_dir / _network_file(report)}"]
        if uri := report["mlflow"]["tracking_uri"]:
            lines.append(f"curves   {ui_command(uri, report['mlflow']['experiment'])}")
        for line in lines:
            self.console.print(one_line(line), markup=False)

    def planned(self, plan: Plan, path: Path | None, latency: LatencyRatio | None) -> None:
        """Show the prunable groups and what the cut would leave.

        Args:
            plan: The cut.
            path: The layers file that was written, if any.
            latency: What the cut network takes, if that was measured.
        """
        table = Table(header_style="bold", box=None, pad_edge=False)
        titles = ("group", "sparsity", "channels", "params", "MACs", "tied with")
        for title in titles:
            is_text, is_tied = title in ("group", "tied with"), title == "tied with"
            side: Any = "left" if is_text else "right"
            table.add_column(title, justify=side, no_wrap=not is_tied, overflow="fold")
        for group in plan.groups:
            table.add_row(
                Text(one_line(group.name)),
                f"{group.sparsity:g}",
                f"{group.channels} -> {group.kept}{f' x {group.width}' if group.width > 1 else ''}",
                f"{count(group.params)} -> {count(group.planned_params)}",
                f"{count(group.macs)} -> {count(group.planned_macs)}",
                Text(one_line(", ".join(group.tied))),
            )
        dense, small = plan.dense, plan.planned
        params = f"{count(dense.params)} -> {count(small.params)}"
        macs = f"{count(dense.macs)} -> {count(small.macs)}"
        table.add_row("whole network", "", "", params, macs, style="bold")
        self.console.print(table)
        for kept in plan.kept:
            self._say(f"kept whole: {kept.name}: {kept.reason}")
        left = small.macs / dense.macs, small.params / dense.params
        measured = f", latency {latency.value:.1%} (± {latency.spread:.1%})" if latency else ""
        self.console.print(
            f"left of the dense network: MACs {left[0]:.1%}, params {left[1]:.1%}{measured}"
        )
        if path is None:
            self.console.print("nothing was written: output=layers.yaml writes the file to edit")
        else:
            self._say(f"edit {path}, then run: admm-exp layers={path}")

    def _say(self, sentence: str, style: str | None = None) -> None:
        """Write a sentence, broken between words where a terminal is too narrow for it."""
        self.console.print(one_line(sentence), style=style, markup=False, soft_wrap=False)

    def _status(self) -> str:
        parts = []
        if self._last is not None:
            if self._last.train_loss is not None:
                parts.append(f"loss {self._last.train_loss:.3f}")
            parts.append(f"val {self._last.val_accuracy:.2%}")
        if self._iteration is not None:
            parts.append(f"residual {self._iteration.relative_primal_residual:.1e}")
            parts.append(f"if cut now {self._iteration.projected_val_accuracy:.2%}")
        return "  ".join(parts)


def _standard_output() -> Console:
    """Open standard output; a terminal is as wide as it is, a file or a pipe never wraps.

    A notebook, which says that it is a terminal, is taken for a file: it then keeps plain lines.
    """
    console = Console(highlight=False, soft_wrap=True)
    if console.is_terminal and not console.is_jupyter:
        return console
    plain: Any = {"force_jupyter": False, "force_terminal": False}
    return Console(highlight=False, soft_wrap=True, width=WIDE, **plain)


def _bar(console: Console) -> Progress:
    """Make a bar of which, when the terminal is narrow, only the status at its end gives way."""
    status = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return Progress(
        TextColumn("{task.description:<9}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=14),
        TextColumn(
            "{task.fields[over]}/{task.total:.0f} epochs", table_column=Column(no_wrap=True)
        ),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True, min_width=5)),
        TextColumn("left", table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[status]}", table_column=status),
        console=console,
        transient=True,
        expand=True,
    )


def _spinner(console: Console) -> Progress:
    """Make a line for work whose end is not known."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        TimeElapsedColumn(),
        TextColumn("{task.fields[status]}"),
        console=console,
        transient=True,
    )


def _network_file(report: Mapping[str, Any]) -> str:
    return PROGRAM if PROGRAM in report["files"] else WEIGHTS
