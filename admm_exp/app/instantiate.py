"""Objects from `_target_` and arguments."""

import inspect
import pkgutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException

from admm_exp.config.check import check_arguments
from admm_exp.errors import AdmmExpError, ConfigError

CALLED_WITH = {"train_fn": ("model", "optimizer", "epoch"), "validate_fn": ("model", "batches")}


def build(group: str, part: dict[str, Any]) -> Any:
    """Build a part from its `_target_` and arguments.

    Raises:
        AdmmExpError: What the part says is wrong, or a sentence that names the group.
    """
    arguments = {key: value for key, value in part.items() if key != "name"}
    if "_target_" not in arguments:
        raise ConfigError(f"{group}._target_ is missing: name the function that builds it")
    target = arguments["_target_"]
    try:
        check_arguments(group, pkgutil.resolve_name(target), arguments)
        return hydra.utils.instantiate(arguments, _convert_="all")
    except (InstantiationException, ImportError, AttributeError, ValueError, TypeError) as error:
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, AdmmExpError):
                raise cause from error
        reason = str(causes[-1]).splitlines()[0]
        raise ConfigError(f"{group} cannot be built by {target}: {reason}") from error


def build_function(name: str, part: dict[str, Any], batches: Any = None) -> Any:
    """Build a user's function from its `_target_` and the arguments that do not change.

    Args:
        name: Setting that names it.
        part: `_target_` and arguments, or nothing.
        batches: Handed over as `batches`, where the target takes it; None leaves it to the caller.

    Returns:
        The function, an object that can be called if the target is a class; None for nothing.

    Raises:
        AdmmExpError: A sentence that names the setting.
    """
    if not part:
        return None
    function = build(name, part | {"_partial_": True})
    if batches is not None and "batches" in taken_by(part):
        function = partial(function, batches=batches)
    if inspect.isclass(pkgutil.resolve_name(part["_target_"])):
        function = function()
    try:
        inspect.signature(function).bind(*CALLED_WITH[name])
    except TypeError as error:
        raise ConfigError(
            f"{name} is called with ({', '.join(CALLED_WITH[name])}), which {part['_target_']} "
            f"does not take: {error}"
        ) from error
    return function


def taken_by(part: dict[str, Any]) -> set[str]:
    """List the arguments that what builds a part names; empty if it cannot be found."""
    try:
        return set(inspect.signature(pkgutil.resolve_name(part["_target_"])).parameters)
    except (KeyError, ImportError, AttributeError, ValueError, TypeError):
        return set()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
