"""What a person sees of a benchmark: a live line, then one table a row."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from admm_exp.bench.measurement import Measurement, Target

if TYPE_CHECKING:
    from admm_exp.bench.machine import Machine


class BenchTerminal:
    """Show rows as they are measured.

    Args:
        total: Number of entries that will be measured.
        console: Where to write; standard output if None.
    """

    def __init__(self, total: int, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def started(self, environment: Mapping[str, Any], machine: "Machine") -> None:
        """Say where, and what the machine can do at best."""
        self.console.print(
            f"[bold]{environment['device']}[/] {environment['device_name']}, "
            f"{environment['threads']} threads of {environment['cpu_count']} cores, torch "
            f"{environment['packages']['torch']}: {machine.bytes_per_second / 1e9:.3g} GB/s, "
            f"{machine.macs_per_second / 1e9:.3g} GMAC/s"
        )

    def measuring(self, name: str) -> None:
        """Name what is measured now."""
        self._progress.update(self._task, description=name)

    def done(self) -> None:
        """Move the bar on."""
        self._progress.advance(self._task)

    def measured(self, row: Measurement) -> None:
        """Show a row."""
        table = Table(header_style="bold", box=None, pad_edge=False, title_justify="left")
        titles = ["", "median", "IQR", "ratio", *(["per s"] if row.items else []), "x ideal"]
        for title in titles:
            table.add_column(title, justify="right" if title else "left", min_width=8)
        for variant in row.seconds:
            times = row.times_limit(variant)
            cells = [
                variant,
                duration(row.median_seconds(variant)),
                duration(row.iqr_seconds(variant)),
                f"{row.ratio(variant):.3g}",
                *([f"{row.items / row.median_seconds(variant):,.0f}"] if row.items else []),
                "" if times is None else f"{times:.3g}",
            ]
            table.add_row(*cells)
        self.console.print(f"\n[bold]{row.name}[/]  {row.title}")
        self.console.print(table)
        if row.limit_seconds is not None:
            self.console.print(f"ideal {duration(row.limit_seconds)}: {row.limit}", style="dim")
        for what, number in row.notes.items():
            shown = f"{number:.4g}" if isinstance(number, float) else number
            self.console.print(f"{what}: {shown}", markup=False)
        for target in row.targets:
            self.console.print(sentence(target), style="green" if target.is_met else "red")

    def written(self, folder: Path) -> None:
        """Say where the files are."""
        self.console.print(f"\nnumbers {folder / 'bench.json'}\nfigure  {folder / 'bench.png'}")


def sentence(target: Target) -> str:
    """Say what was to be reached and what was."""
    verdict, side = (
        ("met", "missed")[not target.is_met],
        ("at most", "at least")[target.is_lower_bound],
    )
    return f"{verdict}: {target.what} {target.value:.3g}, {side} {target.bound:g}"


def duration(seconds: float) -> str:
    """Write a time in three digits."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
