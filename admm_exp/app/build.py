"""From settings to materials: data set, network, metric, tracker."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from admm_exp.app.instantiate import build, build_function, taken_by
from admm_exp.app.rerun import JOURNAL
from admm_exp.config.hashes import config_hash, group_hash
from admm_exp.config.settings import ExperimentConfig, Export, Inference, amounts
from admm_exp.experiment.components import Materials
from admm_exp.experiment.preflight import check_latency, planned
from admm_exp.experiment.previous import read_previous
from admm_exp.export.onnx import require_onnx
from admm_exp.phases.observers import Observer
from admm_exp.pruning.cost.cost import count_cost
from admm_exp.sweep.job import Job
from admm_exp.tracking.journal import origin_of, read_entries
from admm_exp.tracking.mlflow_tracker import open_tracker
from admm_exp.tracking.tracker import NullTracker
from admm_exp.training.device import resolve_device, use_device, use_threads
from admm_exp.training.loop import evaluate
from admm_exp.training.precision import use_precision
from admm_exp.training.processes import Team


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
    journal = run_dir / JOURNAL
    origin = origin_of(read_entries(journal)) if is_resumed else None
    tracker = open_tracker(
        config.tracking_uri,
        config.experiment_name,
        job.name if job and job.name else plain,
        Path("outputs/artifacts").absolute(),
        journal,
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
