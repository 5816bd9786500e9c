"""From settings to materials: data set, network, metric, tracker."""

import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException
from torch import nn

from admm_exp.app.earlier import SPOOL
from admm_exp.app.ranks import Team
from admm_exp.config import (
    ExperimentConfig,
    Export,
    Inference,
    amounts,
    config_hash,
    group_hash,
)
from admm_exp.errors import AdmmExpError, ConfigError
from admm_exp.job_file import Job
from admm_exp.materials import Materials
from admm_exp.onnx_file import require_onnx
from admm_exp.phases.parts import Observer
from admm_exp.preflight import check_latency, planned
from admm_exp.previous import read_previous
from admm_exp.pruning.cost import count_cost
from admm_exp.schema import check_arguments
from admm_exp.tracking import NullTracker, open_tracker
from admm_exp.tracking.spool import origin_of, read_entries
from admm_exp.training.device import resolve_device, use_device, use_threads
from admm_exp.training.loop import evaluate
from admm_exp.training.stepping import use_precision

CALLED_WITH = {"train_fn": ("model", "optimizer", "epoch"), "validate_fn": ("model", "batches")}


def build_materials(
    config: ExperimentConfig, observer: Observer, team: Team | None = None
) -> Materials:
    """Build data set, network and metric, and check that the network can be pruned as asked.

    Args:
        config: The settings.
        observer: Sees the run.
        team: The processes that train together; None for this one alone.

    Raises:
        AdmmExpError: If a part cannot be built or the network has nothing to prune.
    """
    if config.export == Export.onnx:
        require_onnx("export=onnx", "export=none")
    team = team or Team()
    device = resolve_device(config.device, team.local_rank)
    if config.inference == Inference.all and device.type == "cpu":
        require_onnx("inference=all", "inference=eager")
    use_precision(config.trainer.precision, device)
    use_device(device)
    dataset = build("dataset", config.dataset).to(device).shard(team.rank, team.world)
    builder = {key: value for key, value in config.model.items() if key != "name"}
    offered = {"num_classes": dataset.num_classes, "in_channels": dataset.shape[0]}
    builder |= {name: value for name, value in offered.items() if name in taken_by(config.model)}

    def build_original() -> nn.Module:
        network: nn.Module = build("model", builder)
        return network

    previous = None
    if config.from_run is not None:
        previous = read_previous(config.from_run, dataset, config.model["name"], build_original)
    train = build_function("train_fn", config.train_fn, dataset.train)
    validate = build_function("validate_fn", config.validate_fn)
    materials = Materials(
        dataset=dataset,
        build_model=previous.network if previous else build_original,
        builder=builder,
        granularity=build("granularity", config.granularity),
        metric=build("metric", config.metric),
        method=build("method", config.method),
        rho_policy=build("rho_policy", config.rho_policy),
        device=device,
        tracker=NullTracker(),
        observers=(observer,),
        previous=previous,
        train_fn=train,
        evaluate_fn=validate or evaluate,
    )
    materials = planned(config, materials)
    if device.type == "cpu" and team.world == 1:
        planner = materials.planner
        cost = planner.dense if planner else count_cost(build_original(), materials.example_input())
        use_threads(cost.macs * config.schedule.batch_size)
    if team.rank == 0:  # the others would disturb each other
        check_latency(config, materials)
    return materials


def open_tracking(
    config: ExperimentConfig,
    materials: Materials,
    run_dir: Path,
    job: Job | None = None,
    is_resumed: bool = False,
) -> Materials:
    """Start the MLflow run, or go on with that of the folder, unless tracking=none.

    A sweep's job is shown under its parent, a later round under the first.

    Raises:
        TrackingError: If the store cannot be reached or used.
    """
    if config.tracking.name == "none":
        return materials
    prefix = "" if config.method["name"] == "admm" else f"method={config.method['name']},"
    amount = ",".join(f"{name}={value}" for name, value in amounts(config).items())
    plain = config.name or f"{prefix}rho={config.rho},{amount}"
    earlier = materials.previous.first_run_id if materials.previous else None
    spool = run_dir / SPOOL
    origin = origin_of(read_entries(spool)) if is_resumed else None
    tracker = open_tracker(
        config.tracking_uri,
        config.experiment_name,
        job.name if job and job.name else plain,
        Path("outputs/artifacts").absolute(),
        spool,
        tags={
            "kind": "run",
            "config_hash": config_hash(config),
            "group": group_hash(config),
            "run_dir": str(run_dir),
        },
        parent_run_id=job.parent_run_id if job else earlier,
        run_id=None if origin is None else origin[1],
    )
    return replace(materials, tracker=tracker)


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
