"""The per-layer configuration: a sparsity by layer name, in YAML."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from admm_exp.errors import ConfigError
from admm_exp.pruning.budget.planner import Plan
from admm_exp.pruning.surgery.groups import KeptGroup, Prunable
from admm_exp.pruning.surgery.sparsities import LayerSettings

CHANNELS = (
    "# Sparsity of every channel group, by the name of its first layer; tied layers share one, and",
    "# a group of n channels loses floor(sparsity * n) of them; so does one of n units of several",
    "# channels each, as attention heads are.",
)
SYNTAX = (
    "# Edit and run: admm-exp layers=THIS_FILE",
    "# Wildcards: `layer1.*: 0.3`; of all entries that match the most specific decides, a name",
    "# before a wildcard. `exclude` keeps layers whole, by name, wildcard or type: [fc1, Linear]",
)


MOST_BYTES = 2**24
# What YAML's constructors raise for `2020-99-99`, `!!int x` or a thousand brackets
NO_VALUE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


class _Names(yaml.SafeLoader):
    """Leaves names as they are written, 1.10 is a layer and not a number, and none twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [_name(key) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(problem=f"{name} stands here twice")
        return {_name(key): self.construct_object(value, True) for key, value in node.value}


def _name(key: yaml.Node) -> str:
    if not isinstance(key, yaml.ScalarNode):  # one of lists in lists would take for ever to write
        raise yaml.constructor.ConstructorError(problem="a name must be a text")
    return str(key.value)


def read_layers(path: str | Path, default: float) -> LayerSettings:
    """Read a layers file.

    Args:
        path: YAML file with `sparsity: {default: 0.5, layer1.0.conv1: 0.3, ...}` and, if some
            layers shall stay whole, `exclude: [layer2.*, Linear]`.
        default: Sparsity of the other layers if the file names none.

    Raises:
        ConfigError: If the file is missing or has another form.
    """
    try:
        if (size := Path(path).stat().st_size) > MOST_BYTES:
            raise ConfigError(f"layers={path} must have at most {MOST_BYTES} bytes, got {size}")
        content = yaml.load(Path(path).read_text(), _Names)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"layers={path} cannot be read ({reason}): give a YAML file") from error
    except (yaml.YAMLError, *NO_VALUE) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"layers={path} is not valid YAML ({reason})") from error
    is_mapping = isinstance(content, dict) and content and set(content) <= {"sparsity", "exclude"}
    by_layer = content.get("sparsity", {}) if is_mapping else None
    if not isinstance(by_layer, dict):
        raise ConfigError(
            f"layers={path} must hold a mapping `sparsity:` with a number in [0, 1) for `default` "
            f"and for layer names, or a list `exclude:`, and nothing else"
        )
    exclude = content.get("exclude", [])
    if not isinstance(exclude, list) or not all(isinstance(entry, str) for entry in exclude):
        raise ConfigError(f"exclude in layers={path} must be a list of layer names, got {exclude}")
    named: dict[str, Any] = dict(by_layer)
    return LayerSettings(named.pop("default", default), named, tuple(exclude))


def layers_text(plan: Plan, layers: LayerSettings) -> str:
    """Word the layers file of a plan: reading it back plans the same cut.

    Args:
        plan: Groups with their channels and costs, which become comments.
        layers: The default and the exclusions to write.
    """
    cost = (
        f"# {plan.dense.macs:,} -> {plan.planned.macs:,} MACs a sample, "
        f"{plan.dense.params:,} -> {plan.planned.params:,} parameters"
    )
    lines = []
    for group in plan.groups:
        if group.tied:
            tied = f"tied with {', '.join(group.tied)}:"
            lines += textwrap.wrap(tied, 96, initial_indent="  # ", subsequent_indent="  #   ")
        of = f"units of {group.width} channels" if group.width > 1 else "channels"
        size = f"{group.channels} {of}, {group.params:,} params, {group.macs:,} MACs"
        lines.append(f"  {group.name}: {group.sparsity} # {size}")
    return _worded([*CHANNELS, *SYNTAX, cost], lines, layers, plan.kept)


def unit_layers_text(
    prunable: Prunable, sparsities: Sequence[float], layers: LayerSettings, unit: str
) -> str:
    """Word the layers file of a granularity below the channel, where nothing is cut.

    Args:
        prunable: Layers with their units, and those that stay whole.
        sparsities: Sparsity of every prunable layer.
        layers: The default and the exclusions to write.
        unit: What the units are called, in the plural.
    """
    head = f"# Sparsity of every layer: of its n {unit} floor(sparsity * n) become zero."
    lines = [
        f"  {group.name}: {sparsity} # {group.n_units} {unit}"
        for group, sparsity in zip(prunable.groups, sparsities, strict=True)
    ]
    return _worded([head, *SYNTAX], lines, layers, prunable.kept)


def _worded(
    head: Sequence[str], lines: Sequence[str], layers: LayerSettings, kept: Sequence[KeptGroup]
) -> str:
    exclude = yaml.safe_dump(list(layers.exclude), default_flow_style=True, width=float("inf"))
    default = f"  default: {layers.default}"
    told = [f"# kept whole: {group.name}: {group.reason}" for group in kept]
    body = ["sparsity:", default, *lines, f"exclude: {exclude.strip()}", *told]
    return "\n".join([*head, *body]) + "\n"
