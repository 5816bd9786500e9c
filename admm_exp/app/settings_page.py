"""The page of all settings: `python -m admm_exp.app.settings_page notebooks/SETTINGS.md`."""

import dataclasses
import re
import sys
from collections.abc import Iterator
from enum import EnumMeta, StrEnum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from annotated_types import Ge, Gt, Le, Lt

from admm_exp.app.help_text import comments_of
from admm_exp.app.main import conf_dir
from admm_exp.config.meanings import MEANINGS, meaning_of
from admm_exp.config.settings import ExperimentConfig
from admm_exp.report.wording import markdown_table

BOUNDS = {Ge: ("at least {}", "ge"), Gt: ("greater than {}", "gt")}
BOUNDS |= {Le: ("at most {}", "le"), Lt: ("less than {}", "lt")}
NOT_SETTINGS = ("_target_", "defaults", "name")
INTRODUCTION = """\
# Settings

Written by `python -m admm_exp.app.settings_page notebooks/SETTINGS.md` from the schema and `conf/`;
a test keeps it true. The same lines stand in `admm-exp --help`, which shows the values of what you
compose, as in `admm-exp schedule=cifar --help`. A misspelt key, a wrong value, a missing data set:
one sentence says what to do, and nothing is written; `HYDRA_FULL_ERROR=1` shows the traceback. Tab
completion: `eval "$(admm-exp -sc install=bash)"`.

Settings are written `KEY=VALUE`, groups `GROUP=OPTION`, settings of a part `GROUP.KEY=VALUE`. A
sweep gives several values: `-m rho=0.02,0.1 'seed=range(3)'`.
"""


def main() -> None:
    """Write the page to the file that is named."""
    if len(sys.argv) != 2:
        sys.exit("error: name the file to write: python -m admm_exp.app.settings_page FILE")
    Path(sys.argv[1]).write_text(settings_page(), encoding="utf-8")


def settings_page() -> str:
    """Write every setting with meaning, values and default, every group with its options."""
    conf = conf_dir()
    defaults = _defaults(conf)
    rows = [("setting", "meaning", "values", "default")]
    rows += [
        (f"`{key}`", meaning_of(key, {}), values, f"`{defaults[key]}`" if key in defaults else "")
        for key, values in _settings(ExperimentConfig)
    ]
    parts = [INTRODUCTION, "## Groups", _groups(conf), "## Settings", markdown_table(rows)]
    parts += ["Defaults of `schedule.*` are those of `schedule=quick`."]
    for group in _group_names(conf):
        if own := _own_settings(conf, group):
            parts += [f"## `{group}=`", own]
    parts += ["## Other commands", _others(conf)]
    return "\n\n".join(parts) + "\n"


def _groups(conf: Path) -> str:
    rows = [("group", "option", "what it is")]
    for group in _group_names(conf):
        options = sorted((conf / group).glob("*.yaml"))
        for index, path in enumerate(options):
            meaning = MEANINGS.get(group, "a preset of several of them: `+experiment=`")
            name = f"**`{group}=`** {meaning}" if index == 0 else ""
            rows.append((name, f"`{path.stem}`", _first_sentence(path)))
    return markdown_table(rows)


def _group_names(conf: Path) -> list[str]:
    found = [path.name for path in conf.iterdir() if path.is_dir() and path.name != "hydra"]
    return sorted(found, key=lambda name: [*MEANINGS, name].index(name))


def _first_sentence(path: Path) -> str:
    """Read what a YAML says that it is: its first comment, without the command below it."""
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith(("# admm-exp", "#   admm-exp")):
            if lines:
                break
        elif not line.startswith("# @package"):
            lines.append(line[2:])
    return " ".join(lines).replace("|", "\\|")


def _own_settings(conf: Path, group: str) -> str:
    """Lay out the settings that the options of a group have of their own; "" if they have none."""
    if group in ("schedule", "experiment", "tracking"):
        return ""
    rows = [("setting", "meaning", "default")]
    for key, found in _by_key(conf, group).items():
        values = dict.fromkeys(str(_written(value)) for value in found.values())
        same = len(values) == 1 and len(found) == len(list((conf / group).glob("*.yaml")))
        told = (
            next(iter(values))
            if same
            else "; ".join(f"{option}: {_written(value)}" for option, value in found.items())
        )
        comments: dict[str, str] = {}
        for option in reversed(list(found)):
            comments |= comments_of(conf / group / f"{option}.yaml", group)
        rows.append((f"`{group}.{key}`", meaning_of(f"{group}.{key}", comments), f"`{told}`"))
    return markdown_table(rows) if len(rows) > 1 else ""


def _by_key(conf: Path, group: str) -> dict[str, dict[str, Any]]:
    """Read the settings of a group's options: by key, its value in every option that has it."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((conf / group).glob("*.yaml")):
        for key, value in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).items():
            if key not in NOT_SETTINGS:
                found.setdefault(key, {})[path.stem] = value
    return found


def _others(conf: Path) -> str:
    rows = [("command", "setting", "meaning", "default")]
    for command in ("plan", "report", "ui", "sync"):
        settings = yaml.safe_load((conf / f"{command}.yaml").read_text(encoding="utf-8"))
        for key, value in settings.items():
            if key not in ("defaults", "hydra"):
                written = f"`{_written(value)}`"
                rows.append((f"`admm-exp-{command}`", f"`{key}`", MEANINGS[key], written))
    search = conf / "hydra" / "sweeper" / "search.yaml"
    comments = comments_of(search, "hydra.sweeper")
    for key, value in yaml.safe_load(search.read_text(encoding="utf-8")).items():
        name = f"hydra.sweeper.{key}"
        if key not in ("_target_", "params"):
            rows.append(("`admm-exp-search`", f"`{name}`", comments[name], f"`{_written(value)}`"))
    return markdown_table(rows)


def _defaults(conf: Path) -> dict[str, str]:
    """Compose what runs without any setting, as dotted names."""
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    ConfigStore.instance().store(name="schema", node=ExperimentConfig)
    with initialize_config_dir(str(conf), version_base="1.3"):
        composed = OmegaConf.to_container(compose("config"), enum_to_str=True)
    assert isinstance(composed, dict)
    return {key: _written(value) for key, value in _flat(composed)}


def _flat(settings: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _settings(schema: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every setting that has a value of its own, and what that may be."""
    for name, hint in get_type_hints(schema, include_extras=True).items():
        if dataclasses.is_dataclass(hint):
            yield from _settings(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif "dict" not in str(hint) or name in ("train_fn", "validate_fn"):
            yield f"{prefix}{name}", _values(hint)


def _values(hint: Any) -> str:
    if isinstance(hint, EnumMeta):
        return ", ".join(f"`{member.value}`" for member in list[StrEnum](hint))
    kind, *bounds = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    if bounds and isinstance(bounds[0], tuple):
        return ", ".join(f"`{_written(value)}`" for value in bounds[0])
    rules = [BOUNDS[type(b)] for b in bounds if type(b) in BOUNDS]
    limits = [
        form.format(f"{getattr(bound, name):,}")
        for (form, name), bound in zip(rules, [b for b in bounds if type(b) in BOUNDS], strict=True)
    ]
    names = {int: "whole number", float: "number", bool: "`true`, `false`", str: "text"}
    text = names.get(kind) or _union(str(kind))
    return " ".join([text, " and ".join(limits)]).strip()


def _union(kind: str) -> str:
    if "dict" in kind:
        return "a `_target_` and its arguments, or `{}`"
    if kind == "float | int | str":
        return "number greater than 0, or `auto`"
    named = kind.replace("float", "number").replace("None", "`null`").replace(" | ", " or ")
    return re.sub(r"\bstr\b", "text", named)


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


if __name__ == "__main__":
    main()
