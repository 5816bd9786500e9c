"""The parts of an experiment: groups of settings that name what builds them."""

from collections.abc import Iterator

from admm_exp.config.settings import ExperimentConfig

PARTS = ("dataset", "model", "granularity", "metric", "method", "rho_policy")
FUNCTIONS = ("train_fn", "validate_fn")


def nameless(config: ExperimentConfig) -> Iterator[str]:
    """Find parts without the name that tables and MLflow show, one sentence each."""
    for group in PARTS:
        if getattr(config, group).get("name") is None:
            yield f"{group}.name is missing: write `name: NAME` in its YAML, or +{group}.name=NAME"
