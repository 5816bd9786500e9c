"""What a person sees while a sweep goes on: one quiet line a job event, tables at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from admm_exp.report.wording import one_line
from admm_exp.sweep.job import Job
from admm_exp.sweep.tables import Table as SweepTable
from admm_exp.sweep.tables import finished_rows, job_table, summary_tables
from admm_exp.tracking.address import ui_command

STYLES = {
    "finished": "green",
    "reused": "cyan",
    "failed": "red",
    "killed": "yellow",
    "stopped": "yellow",
}


class SweepTerminal:
    """Show a sweep on standard output, failures on standard error.

    Args:
        total: Number of jobs.
    """

    def __init__(self, total: int) -> None:
        # Wider than any table: the terminal may wrap a line, but no number is cut off.
        self.console = Console(highlight=False, soft_wrap=True, width=1000)
        self._errors = Console(highlight=False, soft_wrap=True, stderr=True)
        self._total, self._over = total, 0
        self._begun: set[str] = set()

    def started(self, title: str, folder: Path) -> None:
        """Say what is about to run."""
        self.console.print(f"{self._total} jobs: {one_line(title)}", style="bold", markup=False)
        self.console.print(f"folder {one_line(str(folder))}", markup=False)

    def job_changed(self, job: Job, accuracy: float | None) -> None:
        """Show that a job began or ended.

        Args:
            job: The job.
            accuracy: Test accuracy of its network, if it has one.
        """
        console = self._errors if job.status == "failed" else self.console
        if not job.is_over:
            word = "stopped by the cluster" if job.status == "interrupted" else "started"
            self._begun.add(job.name)
            console.print(f"{'':>9} {word:<9} {one_line(job.name)}", style="dim", markup=False)
            return
        if job.started and job.name not in self._begun:  # it took less time than between two looks
            self.job_changed(replace(job, status="running"), None)
        self._over += 1
        count = f"[{self._over}/{self._total}]"
        line = Text(f"{count:>9} ").append(f"{job.status:<9}", style=STYLES[job.status])
        line.append(f" {one_line(job.name)}")
        if accuracy is not None:
            line.append(f"  {accuracy:.2%}")
        if job.seconds:
            line.append(f"  {job.seconds:.1f} s")
        if job.error:
            line.append(f": {one_line(job.error)}")
        console.print(line)

    def job_warned(self, job: Job, message: str) -> None:
        """Show what a job's user should know now."""
        line = Text(f"{'':>9} ").append(f"{'warning':<9}", style="yellow")
        self.console.print(line.append(f" {one_line(f'{job.name}: {message}')}"))

    def finished(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show the tables."""
        self._show("", job_table(rows))
        self.compared(finished_rows(rows))
        for row in rows:
            if row.get("error"):
                said = one_line(f"{row['status']}: {row['run_name']}: {row['error']}")
                self._errors.print(said, markup=False)

    def compared(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show what finished runs say together."""
        for title, table in summary_tables(rows).items():
            self._show(title, table)

    def where(self, folder: Path, tracking_uri: str | None, experiment_name: str) -> None:
        """Show where to look next."""
        lines = ["", f"sweep    {folder / 'sweep.md'}", f"figures  {folder / 'figures'}"]
        if tracking_uri:
            lines.append(f"curves   {ui_command(tracking_uri, experiment_name)}")
        for line in lines:
            self.console.print(one_line(line), markup=False)

    def _show(self, title: str, rows: SweepTable) -> None:
        table = Table(header_style="bold", box=None, pad_edge=False, title_justify="left")
        header, *lines = rows
        for index, name in enumerate(header):
            is_first = index == 0
            table.add_column(name, justify="left" if is_first else "right", no_wrap=is_first)
        for line in lines:
            table.add_row(*(Text(one_line(cell)) for cell in line))
        self.console.print()
        if title:
            self.console.print(title, style="bold", markup=False)
        self.console.print(table)
