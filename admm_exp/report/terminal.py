"""What a person sees while a run goes on: one live line a phase, one table at the end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from admm_exp.config.settings import ExperimentConfig, amounts
from admm_exp.pruning.budget.planner import Plan
from admm_exp.pruning.cost.latency import LatencyRatio
from admm_exp.report.run import summary_rows, surgery_sentence
from admm_exp.report.wording import count
from admm_exp.results import PROGRAM, WEIGHTS, EpochRecord, IterationRecord, PhaseResult
from admm_exp.tracking.address import ui_command


class Terminal:
    """Show phases as they happen: live bars on a terminal, one line a phase elsewhere.

    Args:
        console: Where to write; standard output if None.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._last: EpochRecord | None = None
        self._iteration: IterationRecord | None = None

    def started(self, config: ExperimentConfig) -> None:
        """Say what is about to run."""
        method = config.method["name"]
        rho = f"rho {config.rho}, " if method == "admm" else ""
        amount = ", ".join(f"{name} {value}" for name, value in amounts(config).items())
        self.console.print(
            f"[bold]{config.model['name']}[/] on {config.dataset['name']}: {method}, {amount}, "
            f"{rho}{config.metric['name']}, seed {config.seed}"
        )

    def phase_started(self, name: str, epochs: int) -> None:
        """Open the phase's bar."""
        self._last = self._iteration = None
        if self.console.is_terminal and epochs:
            self._progress = Progress(
                TextColumn("{task.description:<11}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("epochs"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[status]}"),
                console=self.console,
                transient=True,
            )
            self._progress.add_task(name, total=epochs, status="")
            self._progress.start()

    def epoch_finished(self, record: EpochRecord) -> None:
        """Move the bar on."""
        self._last = record
        if self._progress is not None:
            task = self._progress.task_ids[0]
            self._progress.update(task, completed=record.epoch, status=self._status())

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

    def warned(self, message: str) -> None:
        """Say it above the bar."""
        self.console.print(f"warning: {message}", style="yellow", markup=False)

    def close(self) -> None:
        """Take the bar away, also when a run ends early."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def finished(self, report: Mapping[str, Any], run_dir: Path) -> None:
        """Show the table dense | after the cut | finetuned and where to look next."""
        header, *rows = summary_rows(report["models"])
        table = Table(header_style="bold", box=None, pad_edge=False)
        for index, title in enumerate(header):
            table.add_column(title, justify="left" if index == 0 else "right")
        for row in rows:
            table.add_row(*row)
        self.console.print()
        self.console.print(table)
        self.console.print()
        self.console.print(
            f"Accuracy before the cut {report['admm']['test_accuracy']:.2%}. "
            f"{surgery_sentence(report['surgery'])}"
        )
        lines = [f"report   {run_dir / 'report.md'}", f"network  {run_dir / _network_file(report)}"]
        if uri := report["mlflow"]["tracking_uri"]:
            lines.append(f"curves   {ui_command(uri, report['mlflow']['experiment'])}")
        for line in lines:
            self.console.print(line, markup=False)

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
                group.name,
                f"{group.sparsity:g}",
                f"{group.channels} -> {group.kept}{f' x {group.width}' if group.width > 1 else ''}",
                f"{count(group.params)} -> {count(group.planned_params)}",
                f"{count(group.macs)} -> {count(group.planned_macs)}",
                ", ".join(group.tied),
            )
        dense, small = plan.dense, plan.planned
        params = f"{count(dense.params)} -> {count(small.params)}"
        macs = f"{count(dense.macs)} -> {count(small.macs)}"
        table.add_row("whole network", "", "", params, macs, style="bold")
        self.console.print(table)
        for kept in plan.kept:
            self.console.print(f"kept whole: {kept.name}: {kept.reason}", markup=False)
        left = small.macs / dense.macs, small.params / dense.params
        measured = f", latency {latency.value:.1%} (± {latency.spread:.1%})" if latency else ""
        self.console.print(
            f"left of the dense network: MACs {left[0]:.1%}, params {left[1]:.1%}{measured}"
        )
        if path is None:
            self.console.print("nothing was written: output=layers.yaml writes the file to edit")
        else:
            self.console.print(f"edit {path}, then run: admm-exp layers={path}", markup=False)

    def _status(self) -> str:
        parts = []
        if self._last is not None:
            if self._last.train_loss is not None:
                parts.append(f"loss {self._last.train_loss:.3f}")
            parts.append(f"val {self._last.val_accuracy:.2%}")
        if self._iteration is not None:
            parts.append(f"residual {self._iteration.relative_primal_residual:.1e}")
            parts.append(f"to be cut {self._iteration.dead_energy:.1e}")
        return "  ".join(parts)


def _network_file(report: Mapping[str, Any]) -> str:
    return PROGRAM if PROGRAM in report["files"] else WEIGHTS
