"""What names a dense network in the cache: everything that its weights depend on."""

from dataclasses import asdict

from torch import nn

from admm_exp.config import ExperimentConfig, content_hash, dataset_settings, digest
from admm_exp.environment import code_digest, package_version, source_digest
from admm_exp.materials import Materials
from admm_exp.training.distribution import world_size

PACKAGES = ("admm-exp", "torch", "torchvision")


def dense_key(config: ExperimentConfig, materials: Materials, model: nn.Module) -> str:
    """Hash what a dense network depends on.

    Args:
        config: The settings.
        materials: Data and device.
        model: The network, untrained; its code counts, its weights follow from the seed.
    """
    return digest(
        {
            "data": materials.dataset.fingerprint,
            "dataset": dataset_settings(config),
            "model": config.model,
            "train_fn": config.train_fn and [config.train_fn, code_digest(materials.train_fn)],
            "validate_fn": config.validate_fn
            and [config.validate_fn, code_digest(materials.evaluate_fn)],  # of curves kept there
            "pretrained": content_hash(config.pretrained),
            "code": source_digest(model),
            "versions": {name: package_version(name) for name in PACKAGES},
            "schedule": asdict(config.schedule.dense),
            "optimizer": asdict(config.schedule.optimizer),
            "batch_size": config.schedule.batch_size,
            "precision": config.trainer.precision,
            "compile": config.trainer.compile,
            "seed": config.seed,
            "device": materials.device.type,
            "processes": world_size(),
        }
    )
