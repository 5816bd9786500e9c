"""The per-layer configuration: a sparsity by layer name, in YAML."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from admm_exp.errors import ConfigError
from admm_exp.pruning.groups import KeptGroup, PrunableGroup
from admm_exp.training.checkpoint import write_atomically


class _Names(yaml.SafeLoader):
    """Leaves names as they are written, 1.10 is a layer and not a number, and none twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [str(key.value) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(problem=f"{name} stands here twice")
        return {str(key.value): self.construct_object(value, True) for key, value in node.value}


def read_layers(path: str | Path, default: float) -> tuple[float, dict[str, float]]:
    """Read a layers file.

    Args:
        path: YAML file with `sparsity: {default: 0.5, layer1.0.conv1: 0.3, ...}`.
        default: Sparsity of the other layers if the file names none.

    Returns:
        The default sparsity and the sparsities by layer name.

    Raises:
        ConfigError: If the file is missing or has another form.
    """
    try:
        content = yaml.load(Path(path).read_text(), _Names)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"layers={path} cannot be read ({reason}): give a YAML file") from error
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"layers={path} is not valid YAML ({reason})") from error
    by_layer = content.get("sparsity") if isinstance(content, dict) else None
    if not isinstance(by_layer, dict) or set(content) != {"sparsity"}:
        raise ConfigError(
            f"layers={path} must hold one mapping `sparsity:` with a number in [0, 1) for "
            f"`default` and for layer names"
        )
    named: dict[str, Any] = dict(by_layer)
    return named.pop("default", default), named


def write_layers(
    path: Path,
    groups: Sequence[PrunableGroup],
    sparsities: Sequence[float],
    default: float,
    kept: Sequence[KeptGroup] = (),
    *,
    unit: str = "channels",
) -> None:
    """Write the sparsity of every prunable group, with its channels and ties as comments.

    Args:
        path: File to write.
        groups: Prunable groups.
        sparsities: Sparsity of each.
        default: Sparsity of groups that the file does not name.
        kept: Groups that stay whole; listed as comments with the reason.
        unit: What the units of a group are called, in the plural.
    """
    rows: Mapping[str, float] = {
        group.name: value for group, value in zip(groups, sparsities, strict=True)
    }
    lines = [
        "# Sparsity of every channel group, by the name of its first layer; layers in one group",
        "# share it. Edit and run: admm-exp layers=THIS_FILE",
        "sparsity:",
        f"  default: {default}",
    ]
    for group in groups:
        tied = [name for name in group.producers if name != group.name]
        note = f"{group.n_units} {unit}" + (f", tied with {', '.join(tied)}" if tied else "")
        lines.append(f"  {group.name}: {rows[group.name]} # {note}")
    lines += [f"# kept whole: {group.name}: {group.reason}" for group in kept]
    write_atomically(path, ("\n".join(lines) + "\n").encode())
