"""What can be known of an experiment before anything is trained."""

import torch

from admm_exp.config import ExperimentConfig
from admm_exp.errors import ModelError
from admm_exp.materials import Materials
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.stages import sparsities
from admm_exp.training.seeding import seed_everything


def check_plan(config: ExperimentConfig, materials: Materials) -> None:
    """Check, before anything is trained, that the network can be pruned as asked.

    The untrained network is masked and cut on random inputs, so that what cannot be cut is known
    before ADMM has spent its epochs.

    Raises:
        ModelError: If nothing can be pruned or the network does not fit the data.
        ConfigError: If the layers file does not fit the network, or rho is too large for the step.
        SurgeryError: If masked and cut network differ.
    """
    dataset = materials.dataset
    materials.method.check(config, materials.rho_policy, len(dataset.train))
    seed_everything(config.seed)
    model = materials.build_model()
    default, by_layer = sparsities(config)
    inputs = torch.randn(2, *dataset.shape)
    constrained = ConstrainedModel(
        model,
        inputs[:1],
        sparsity=default,
        granularity=materials.granularity,
        metric=materials.metric,
        rho=1.0,
        by_layer=by_layer,
    )
    small, _ = constrained.finish(inputs)
    with torch.no_grad():
        logits = small.eval()(inputs)
    expected = (2, dataset.num_classes)
    if not isinstance(logits, torch.Tensor) or logits.shape != expected:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(
            f"the model must return class scores of shape {expected} for 2 images of {dataset.name}"
            f", got {got}"
        )
