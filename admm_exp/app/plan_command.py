"""`admm-exp-plan`: what an experiment would prune, as a layers file to edit."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from admm_exp.app.main import one_sentence, run_command
from admm_exp.config.settings import PlanConfig
from admm_exp.errors import ConfigError


def main() -> None:
    """Run `admm-exp-plan`."""
    run_command("plan", PlanConfig, _task)


def _task(composed: DictConfig) -> None:
    with one_sentence(PlanConfig):
        _plan(composed)


def _plan(composed: DictConfig) -> None:
    settings: Any = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)
    output = settings.pop("output")
    if output == "":
        raise ConfigError("output must not be empty: name the layers file to write")
    path = Path(output) if output else None
    if path is not None and path.exists():
        raise ConfigError(f"output={path} exists already: choose another name")

    from admm_exp.app.build import build_components
    from admm_exp.config.check import check_config
    from admm_exp.experiment.preflight import planned_layers
    from admm_exp.pruning.budget.layers_file import layers_text
    from admm_exp.report.terminal import Terminal

    config = check_config(settings, HydraConfig.get().overrides.task)
    terminal = Terminal()
    plan, layers, choice = planned_layers(config, build_components(config))
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x") as file:
                file.write(layers_text(plan, layers))
        except OSError as error:
            raise ConfigError(
                f"output={path} cannot be written ({error.strerror}): choose another name"
            ) from error
    terminal.planned(plan, path, choice.ratio if choice else None)
