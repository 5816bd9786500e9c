"""The words of a command line, before Hydra reads them."""

import difflib
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from admm_exp.errors import ConfigError

STORE = "MLFLOW_TRACKING_URI"
PRESETS = "experiment"
SWEEPS = ("-m", "--multirun")
BROKEN_PIPE = 128 + 13
"""Exit code of a process that SIGPIPE ends."""
QUOTE_OR_END = re.compile(r'(\\*)("|\Z)')
"""Where backslashes mean something in a text that Hydra reads in quotes."""
KEY = re.compile(r"[~+]{0,2}[\w./@:]+")


def options_first(words: Sequence[str]) -> list[str]:
    """Put Hydra's options before the overrides, between which its parser stumbles over them.

    Args:
        words: What stands behind the command.

    Raises:
        ConfigError: If there is no such option.
    """
    from hydra._internal.utils import get_args_parser

    known = get_args_parser()._option_string_actions
    options: list[str] = []
    overrides: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("-") or word == "-":
            overrides.append(word)
            continue
        options.append(word)
        name, has_value, _ = word.partition("=")
        action = known[_option(name, list(known))]
        takes_next = action.nargs is None or (
            action.nargs == "?" and waiting and waiting[0] in (action.choices or ())
        )
        if takes_next and waiting and not has_value:
            options.append(waiting.pop(0))
    return options + overrides


def _option(name: str, known: Sequence[str]) -> str:
    """Find the option that a word names, in full or by its beginning."""
    if name in known:
        return name
    begun = [option for option in known if name.startswith("--") and option.startswith(name)]
    if len(begun) == 1:
        return begun[0]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else "--hydra-help lists all"
    raise ConfigError(f"unknown option {name}; {hint}")


def require_single(words: Sequence[str]) -> None:
    """Check that a command that runs once is not asked to sweep.

    Raises:
        ConfigError: If it is.
    """
    if asked := sorted({*SWEEPS} & {*words}):
        name = Path(sys.argv[0]).name
        raise ConfigError(f"{name} runs once and sweeps over nothing: leave {asked[0]} out")


def require_one_option(words: Sequence[str], conf: Path) -> None:
    """Check that every group is given one option by its name, or in a sweep one a job.

    Of a list of options Hydra merges all; presets alone are meant to be.

    Args:
        words: What stands behind the command.
        conf: Folder of the YAML files, a folder a group.

    Raises:
        ConfigError: If one is given anything else.
    """
    options: dict[str, list[str]] = {}
    for path in sorted(conf.rglob("*.yaml")):
        options.setdefault(path.parent.relative_to(conf).as_posix(), []).append(path.stem)
    for word in words:
        group = re.split("[=@]", word.lstrip("~+"), maxsplit=1)[0]
        if group in options and not all(_is_option(value, group) for value in _values(word)):
            raise ConfigError(
                f"{word} is not one option of {group}: write {group}=OPTION, such as "
                f"{', '.join(options[group])}; -m sweeps over several, {group}=A,B"
            )


def _is_option(value: object, group: str) -> bool:
    is_wrong = value is None or isinstance(value, bool | int | float | list)
    return not is_wrong or (isinstance(value, list) and group == PRESETS)


def _values(word: str) -> Iterator[object]:
    """Read what an override gives each job; nothing if Hydra is to say what is wrong with it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ValueType
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:
        return
    if override.is_discrete_sweep() and override.value_type != ValueType.GLOB_CHOICE_SWEEP:
        yield from override.sweep_iterator()
    elif not override.is_sweep_override() and not word.startswith("~hydra/"):
        yield override.value()


def forget_empty_address() -> None:
    """Take an empty address in the environment for none."""
    if not os.environ.get(STORE, STORE).strip():
        del os.environ[STORE]


def quoted(override: str) -> str | None:
    """Write an override so that Hydra takes its value as a text, and a shell all of it as one word.

    Returns:
        None if it is no KEY=VALUE, or means the same as it stands.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, is_set, value = override.partition("=")
    if not (is_set and KEY.fullmatch(key)):
        return None
    written = f"{key}={quoted_value(value)}"
    try:
        read = OverridesParser.create().parse_override(written).value()
    except HydraException:
        return None
    return shlex.quote(written) if str(read) == value else None


def quoted_value(text: str) -> str:
    """Write a text so that Hydra reads just that, whatever signs it has."""
    escaped = QUOTE_OR_END.sub(lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text)
    return f'"{escaped}"'


@contextmanager
def pipe_may_close() -> Iterator[None]:
    """End quietly when who reads the output has read enough, as `head` has, or does not listen."""
    _open_what_is_closed()
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)


def _open_what_is_closed() -> None:
    """Let output that the shell closed, as `>&-` does, go nowhere.

    Else the next file that is opened takes its number, and what others print is written into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 (until the end)
