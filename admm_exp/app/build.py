"""From settings to components: data set, network, method; and the tracker beside them."""

from pathlib import Path

from torch import nn

from admm_exp.app.instantiate import build, build_function, taken_by
from admm_exp.app.trust import require_plain_folder
from admm_exp.config.hashes import config_hash, group_hash
from admm_exp.config.settings import ExperimentConfig, Export, Inference, amounts
from admm_exp.experiment.allocation import planner_of
from admm_exp.experiment.components import Components, example_input
from admm_exp.experiment.functions import (
    admm_course,
    momentum_in,
    starting_rho,
    steps_per_epoch,
)
from admm_exp.experiment.preflight import (
    check_functions,
    check_latency,
    check_method,
    check_network,
    untrained,
)
from admm_exp.experiment.previous import PreviousRun, read_previous
from admm_exp.export.onnx import require_onnx
from admm_exp.pruning.cost.cost import count_cost
from admm_exp.pruning.granularity import granularity_of
from admm_exp.results import ARTIFACTS, JOURNAL
from admm_exp.sweep.job import Job
from admm_exp.tracking.journal import read_entries, recorded_run
from admm_exp.tracking.mlflow_tracker import open_tracker
from admm_exp.tracking.process_tracker import StoreProcess
from admm_exp.tracking.tracker import NullTracker, Tracker
from admm_exp.training.device import resolve_device, use_device, use_threads
from admm_exp.training.loop import evaluate
from admm_exp.training.precision import use_precision
from admm_exp.training.processes import Team


def build_components(config: ExperimentConfig, team: Team | None = None) -> Components:
    """Build data set, network and metric, and check that the network can be pruned as asked.

    Args:
        config: The settings.
        team: The processes that train together; None for this one alone.

    Raises:
        AdmmExpError: If a part cannot be built, the network has nothing to prune, or the settings
            cannot end well.
    """
    if config.export == Export.onnx:
        require_onnx("export=onnx", "export=none")
    team = team or Team()
    device = resolve_device(config.device, team.local_rank, 1 + len(team.children))
    if config.inference == Inference.all and device.type == "cpu":
        require_onnx("inference=all", "inference=eager")
    use_precision(config.trainer.precision, device)
    use_device(device)
    dataset = build("dataset", config.dataset).in_parts(config.schedule.epoch_parts)
    dataset = dataset.to(device).shard(team.rank, team.world)
    builder = {key: value for key, value in config.model.items() if key != "name"}
    check_functions(config, dataset)
    offered = {"num_classes": dataset.num_classes, "in_channels": (*dataset.shape, 1)[0]}
    offered = {name: value for name, value in offered.items() if value}
    builder |= {name: value for name, value in offered.items() if name in taken_by(config.model)}

    def build_original() -> nn.Module:
        network: nn.Module = build("model", builder)
        return network

    previous = None
    if config.from_run is not None:
        require_plain_folder(Path(config.from_run))
        previous = read_previous(config.from_run, dataset, config.model["name"], build_original)
    build_model = previous.network if previous else build_original
    train_fn = build_function("train_fn", config.train_fn, dataset.train)
    evaluate_fn = build_function("validate_fn", config.validate_fn) or evaluate
    granularity = build("granularity", config.granularity)
    metric, method = build("metric", config.metric), build("method", config.method)
    rho_policy = build("rho_policy", config.rho_policy)
    course = admm_course(config, rho_policy)
    rho = starting_rho(config, course, steps_per_epoch(config, dataset))
    method.check(course, rho, momentum_in(config.schedule.optimizer))
    check_method(config, method, granularity)
    model, example = untrained(config, build_model), example_input(dataset, device)
    is_cut = granularity_of(granularity).is_cut
    components = Components(
        dataset=dataset,
        build_model=build_model,
        builder=builder,
        granularity=granularity,
        planner=planner_of(config, model, example) if is_cut else None,
        metric=metric,
        method=method,
        rho_policy=rho_policy,
        device=device,
        previous=previous,
        train_fn=train_fn,
        evaluate_fn=evaluate_fn,
        has_own_score=evaluate_fn is not evaluate,
    )
    check_network(config, components, model)
    if device.type == "cpu" and team.world == 1:
        cost = components.planner.dense if components.planner else count_cost(model, example)
        use_threads(cost.macs * config.schedule.batch_size)
    if team.rank == 0:  # the others would disturb each other
        check_latency(config, components)
    return components


def tracker_of(
    config: ExperimentConfig,
    previous: PreviousRun | None,
    run_dir: Path,
    job: Job | None = None,
    is_resumed: bool = False,
    *,
    beside: StoreProcess | None = None,
) -> Tracker:
    """Start the MLflow run, or go on with that of the folder, unless tracking=none.

    A sweep's job is shown under its parent, a later round under the first.

    Args:
        config: The settings.
        previous: The run that this one starts from.
        run_dir: Folder of the run.
        job: The job of a sweep that it is.
        is_resumed: Go on with the run of the folder.
        beside: Who speaks with MLflow; None for this process.

    Raises:
        TrackingError: If the store cannot be reached or used.
    """
    if config.tracking.name == "none":
        return NullTracker()
    prefix = "" if config.method["name"] == "admm" else f"method={config.method['name']},"
    amount = ",".join(f"{name}={value}" for name, value in amounts(config).items())
    plain = config.name or f"{prefix}rho={config.rho},{amount}"
    earlier = previous.first_run_id if previous else None
    journal = run_dir / JOURNAL
    opened = recorded_run(read_entries(journal)) if is_resumed else None
    open_run = open_tracker if beside is None else beside.open
    return open_run(
        config.tracking_uri,
        config.experiment_name,
        job.name if job and job.name else plain,
        Path(ARTIFACTS).absolute(),
        journal,
        tags={
            "kind": "run",
            "config_hash": config_hash(config),
            "group": group_hash(config),
            "run_dir": str(run_dir),
        },
        parent_run_id=job.parent_run_id if job else earlier,
        run_id=None if opened is None else opened.run_id,
    )
