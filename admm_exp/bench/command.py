"""`admm-exp-bench`: measure every stage on this machine, beside its alternatives and its limit."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill
from time import process_time
from typing import Any, NoReturn

from admm_exp.bench.registry import ENTRIES, chosen
from admm_exp.errors import AdmmExpError, ConfigError
from admm_exp.results import BENCH

EXAMPLES = """\
examples:
  admm-exp-bench --quick               a first look, about a minute
  admm-exp-bench                       everything, about a quarter of an hour
  admm-exp-bench step update           these rows alone
  python admm_exp/bench/gpu.py         a GPU's table (torch, torchvision)
  OMP_NUM_THREADS=1 admm-exp-bench --cpu-time   on a machine that others use too
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def main() -> None:
    """Run `admm-exp-bench`."""
    try:
        asked = _parser().parse_args()
        names = chosen(asked.rows, asked.quick)
        run(names, asked.quick, asked.device, process_time if asked.cpu_time else None)
    except AdmmExpError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")


def run(
    names: list[str],
    is_quick: bool,
    device_name: str,
    clock: Callable[[], float] | None = None,
) -> Path:
    """Measure rows, show each as it is done, and write bench.json and bench.png.

    Args:
        names: Entries of the registry.
        is_quick: Smaller work and fewer rounds.
        device_name: As the setting `device`.
        clock: What times are read from; None for wall time.

    Returns:
        Folder of the two files.

    Raises:
        DeviceError: If there is no such device.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other
    from admm_exp.bench.machine import measure_machine
    from admm_exp.bench.measurement import Bench
    from admm_exp.bench.terminal import BenchTerminal
    from admm_exp.experiment.environment import describe_environment
    from admm_exp.report.figures.bench import draw_bench
    from admm_exp.results import write_atomically
    from admm_exp.training.device import resolve_device, use_device
    from admm_exp.training.precision import use_precision

    device = resolve_device(device_name)
    use_device(device)
    use_precision("float32", device)
    folder = Path(BENCH) / datetime.now().strftime("%Y-%m-%d_%H-%M-%S.%f")
    rows: list[dict[str, Any]] = []
    with BenchTerminal(len(names)) as terminal:
        terminal.measuring("machine")
        machine, environment = measure_machine(device, clock), describe_environment(device)
        terminal.started(environment, machine)
        for name in names:
            terminal.measuring(name)
            with TemporaryDirectory() as work:
                bench = Bench(is_quick, device, Path(work), machine, clock)
                for row in ENTRIES[name].load()(bench):
                    terminal.measured(row)
                    rows.append(row.as_dict())
            terminal.done()
    kind = "wall" if clock is None else "CPU"
    result = {
        "is_quick": is_quick,
        "clock": kind,
        "environment": environment,
        "machine": vars(machine),
    }
    text = json.dumps(result | {"rows": rows}, indent=1)
    write_atomically(folder / "bench.json", text.encode())
    draw_bench(rows, folder / "bench.png")
    terminal.written(folder)
    return folder


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, ENTRIES))
    indent = " " * (width + 4)
    lines = [
        fill(f"  {name:<{width}}  {entry.about}{_when(name)}", 80, subsequent_indent=indent)
        for name, entry in ENTRIES.items()
    ]
    parser = _Parser(
        "admm-exp-bench",
        description="Measure every stage on this machine: variants in turns, median, spread,\n"
        "ratio, and how far each is from its bytes and operations at the rates measured.",
        epilog="rows:\n" + "\n".join(lines) + "\n\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows to measure (default: all)")
    parser.add_argument("--quick", action="store_true", help="smaller work, about a minute")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count CPU time instead of wall time, of whole commands that of their processes "
        "(but wall time of sweep): for busy machines without a GPU",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    return parser


def _when(name: str) -> str:
    return "" if ENTRIES[name].is_quick else " (not in --quick)"
