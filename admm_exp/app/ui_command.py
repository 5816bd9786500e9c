"""`admm-exp-ui`: the MLflow UI, opened where the runs are."""

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Le, MinLen
from omegaconf import DictConfig, OmegaConf

from admm_exp.app.main import one_sentence, run_command


@dataclass
class UiSettings:
    """Which store and experiment to show, and where."""

    experiment_name: Annotated[str, MinLen(1)]
    tracking_uri: Annotated[str, MinLen(1)]
    port: Annotated[int, Ge(1), Le(65535)]


def main() -> None:
    """Run `admm-exp-ui`."""
    run_command("ui", UiSettings, _task, builds=False)


def _task(composed: DictConfig) -> None:
    from admm_exp.config.check import check_settings
    from admm_exp.tracking.run_status import sigterm_raises

    settings: Any = OmegaConf.to_container(composed, resolve=True)
    with one_sentence(UiSettings), sigterm_raises():
        show(check_settings(settings, UiSettings))


def show(settings: UiSettings) -> None:
    """Print the links to the prepared view, and keep the UI running until it is interrupted.

    Raises:
        TrackingError: If the store or the experiment is missing, or the UI does not start.
    """
    from admm_exp.tracking.address import absolute_uri, has_server
    from admm_exp.tracking.runs import find_experiment, open_store
    from admm_exp.tracking.server import ui_server
    from admm_exp.tracking.view import prepare_view

    uri = absolute_uri(settings.tracking_uri)
    client = open_store(uri)
    experiment = find_experiment(client, settings.experiment_name)
    prepare_view(client, experiment)
    if has_server(uri):
        _print_links(uri, experiment.experiment_id)
        return
    try:
        with ui_server(uri, settings.port) as (address, process):
            _print_links(address, experiment.experiment_id)
            print("Ctrl-C ends the UI.", flush=True)
            process.wait()
    except KeyboardInterrupt:
        return


def _print_links(base: str, experiment_id: str) -> None:
    from admm_exp.tracking.view import view_links

    for name, link in view_links(base, experiment_id).items():
        print(f"{name:<8} {link}", flush=True)
