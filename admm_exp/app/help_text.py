"""What --help prints: the composed settings, each with its meaning."""

import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from textwrap import fill, wrap

from admm_exp.config.meanings import meaning_of

HEADLINE = "== Settings"
SETTING = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?P<value>.*)$")
COMMENTED = re.compile(r"^(?P<key>\w+):[^#]*?#\s*(?P<comment>.+)$")
GROUP = re.compile(r"^[\w/@]+: ([\w.]+, )+[\w.]+$")
WIDTH, COLUMN = 80, 32
"""Columns of the help, and where the meaning of a setting begins."""


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Say whether a command line asks for help."""
    return bool({"--help", "-h"} & set(arguments))


@contextmanager
def explained(conf: Path, asked: bool) -> Iterator[None]:
    """Add to the help that the body prints what every setting means.

    Args:
        conf: Folder of the YAML files.
        asked: Whether the body prints help at all.
    """
    if not asked:
        yield
        return
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        sys.stdout.write(with_meanings(printed.getvalue(), conf))


def with_meanings(text: str, conf: Path) -> str:
    """Put the meaning of every setting behind its line.

    Args:
        text: Help with composed settings, as YAML, below a headline.
        conf: Folder of the YAML files, whose comments explain the settings of parts.
    """
    head, found, settings = text.partition(HEADLINE)
    lines = settings.splitlines()
    keys: list[str] = []
    names = dict(re.findall(r"(?m)^(\w+):\n(?:  .*\n)*?  name: (\w+)$", settings))
    comments: dict[str, str] = {}
    for group, name in names.items():
        comments |= comments_of(conf / group / f"{name}.yaml", group)
    for index, line in enumerate(lines):
        match = SETTING.match(line)
        if index and match and not line.lstrip().startswith("_target_"):
            depth = len(match["indent"]) // 2
            keys = [*keys[:depth], match["key"]]
            if meaning := meaning_of(".".join(keys), comments):
                lines[index] = beside(line, meaning)
    head = "\n".join(_folded(line) for line in head.split("\n"))
    return head + found + "\n".join(lines) + ("\n" if settings else "")


def beside(setting: str, meaning: str) -> str:
    """Put a meaning as a comment behind a setting, folded below it where it is long.

    Args:
        setting: A line of YAML.
        meaning: What it means.
    """
    comment = [f"# {part}" for part in wrap(meaning, WIDTH - COLUMN - 2)]
    first = f"{setting:<{COLUMN}}{comment.pop(0)}" if len(setting) < COLUMN else setting
    return "\n".join([first, *(f"{'':<{COLUMN}}{part}" for part in comment)])


def _folded(line: str) -> str:
    """Fold the options of a group."""
    is_long = len(line) > WIDTH and GROUP.match(line)
    return fill(line, WIDTH, subsequent_indent="  ") if is_long else line


def comments_of(path: Path, group: str) -> dict[str, str]:
    """Read what the YAML of a part says about its settings, by dotted name."""
    if not path.is_file():
        return {}
    matches = (COMMENTED.match(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {f"{group}.{match['key']}": match["comment"] for match in matches if match}


def search_help(conf: Path) -> str:
    """Describe the search and its own settings, as its YAML says them.

    Args:
        conf: Folder of the YAML files.
    """
    lines = (conf / "hydra" / "sweeper" / "search.yaml").read_text(encoding="utf-8").splitlines()
    examples = [line.removeprefix("#   ") for line in lines if line.startswith("#   ")]
    parts = [line.partition(" # ") for line in lines if not line.startswith(("#", "_target_"))]
    own = [beside(setting, meaning) if meaning else setting for setting, _, meaning in parts]
    return "\n".join(
        [
            "admm-exp-search: Optuna chooses rho, sparsity and what is given a range, to",
            "raise validation accuracy and lower MACs (sampler: TPE); the same command goes",
            "on.",
            "",
            "== Examples ==",
            "admm-exp-search                                      rho and sparsity, 20 trials",
            *examples,
            "",
            "== The search (hydra.sweeper.KEY=VALUE) ==",
            *own,
            "",
            "== Every trial is an experiment of admm-exp ==",
        ]
    )
