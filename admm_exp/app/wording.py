"""Hydra's and OmegaConf's errors in one sentence: the key, the value, what is allowed."""

import difflib
import logging
import re
import traceback
from errno import EACCES, EDQUOT, EEXIST, EFBIG, ELOOP, ENAMETOOLONG, ENOSPC, ENOTDIR, EPERM, EROFS
from pathlib import Path

from hydra.errors import (
    ConfigCompositionException,
    MissingConfigException,
    OverrideParseException,
    SearchPathException,
)
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from admm_exp.app.command_line import quoted
from admm_exp.config.keys import known_keys, unknown_key
from admm_exp.config.settings import ExperimentConfig
from admm_exp.errors import AdmmExpError
from admm_exp.report.wording import one_line

NO_PLACE = {ELOOP, ENAMETOOLONG}
CANNOT_WRITE = {EACCES, EPERM, EROFS, ENOSPC, EDQUOT, EFBIG, EEXIST, ENOTDIR}


def explain(error: BaseException, schema: type = ExperimentConfig) -> str:
    """Word an error for the terminal; only errors nobody foresaw keep their traceback.

    Args:
        error: What was raised.
        schema: Settings of the command, to name the nearest one to a misspelt key.
    """
    if isinstance(error, AdmmExpError):
        return f"error: {one_line(str(error))}"
    if said := _composing(error, schema):
        return f"error: {one_line(said)}"
    if isinstance(error, OSError) and error.errno in NO_PLACE:
        return f"error: {one_line(str(error.filename))} is no name of a file ({error.strerror})"
    if isinstance(error, OSError) and error.errno in CANNOT_WRITE:
        place, reason = one_line(str(error.filename)), error.strerror
        return f"error: {place} cannot be written ({reason}): free it or run elsewhere"
    text = "".join(traceback.format_exception(error))
    return f"{text}error: {type(error).__name__}: {error}"


class PlainSigns(logging.Formatter):
    """Writes a message in one line, with no sign that a terminal would obey."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        """Word a record; what libraries write in several lines keeps them."""
        text = super().formatMessage(record)
        is_own = record.name.startswith("admm_exp")
        return one_line(text) if is_own else "\n".join(map(one_line, text.split("\n")))


def sentence(error: BaseException) -> str:
    """Word an error in one line, whatever it is."""
    return explain(error).splitlines()[-1].removeprefix("error: ")


def _composing(error: BaseException, schema: type) -> str | None:
    """Word what goes wrong while settings are composed; None if that is not what went wrong."""
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    if isinstance(error, OverrideParseException):
        override = str(error.override)
        written = quoted(override) if override.isprintable() else None
        hint = f"; a text with such signs stands in quotes: {written}" if written else ""
        return f"{error.override!r} is not a setting, write KEY=VALUE{hint}"
    if isinstance(error, SearchPathException):
        return f"{str(error)[0].lower()}{str(error)[1:]}: give --config-dir a folder"
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name} is no valid YAML (line {mark.line + 1}: {error.problem})"
    if isinstance(error, ConfigCompositionException | OmegaConfBaseException):
        return _composition(error, schema)
    if isinstance(error, ValueError | TypeError | AssertionError) and _is_hydras(error):
        said = str(error).partition("\n")[0] or "an override is empty"
        said = "options are names" if isinstance(error, TypeError) else said
        return f"write KEY=VALUE, and GROUP=OPTION as --help lists them ({said})"
    return None


def _is_hydras(error: BaseException) -> bool:
    """Tell whether Hydra stumbled over an override that it does not check, as +experiment=[1]."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "hydra" in Path(frames[-1].filename).parts


def _missing_option(error: MissingConfigException) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    options = sorted(error.options or [])
    if not options:
        return str(error).splitlines()[0]
    near = difflib.get_close_matches(option, options, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{group}={option} is unknown; {hint}available: {', '.join(options)}"


def _composition(error: BaseException, schema: type) -> str:
    text = str(error)
    found = re.search(r"Could not override '([^']+)'", text)
    if found and found[1].partition("@")[0] not in known_keys(schema):
        return _unknown(found[1].partition("@")[0], error, schema)
    if found := re.search(r"Ambiguous value for argument '(.+)'", text):
        return f"{found[1]} gives several values: add -m to sweep over them"
    if found := re.search(r"Multiple values for ([\w/.]+)", text):
        return f"{found[1]} is given more than once"
    cause: BaseException | None = error
    while cause is not None:
        key = getattr(cause, "full_key", None)
        if key and (found := re.match(r"Value '(.*)' of type '\w+' could not be conv", str(cause))):
            return f"{key} must be a {_kind(str(cause))}, got {found[1]}"
        if key and (
            found := re.match(r"Invalid value '(.*)', expected one of \[(.*)\]", str(cause))
        ):
            return f"{key} must be one of {found[2]}, got {found[1]}"
        if key and "not Optional" in str(cause):
            return f"{key} must have a value, got null"
        cause = cause.__cause__
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _unknown(key: str, error: BaseException, schema: type) -> str:
    if key == "experiment":
        return "a preset is added to the other settings: write +experiment=NAME"
    parent = getattr(error.__cause__, "parent_node", None)
    group, _, leaf = key.rpartition(".")
    siblings = [str(name) for name in parent] if group and parent is not None else []
    if near := difflib.get_close_matches(leaf, siblings, 1):
        return f"unknown setting {key!r}; did you mean '{group}.{near[0]}'?"
    return unknown_key(key, schema)


def _kind(message: str) -> str:
    kinds = {"Integer": "whole number", "Float": "number", "Boolean": "true or false"}
    return next((words for name, words in kinds.items() if name in message), "value of its type")
