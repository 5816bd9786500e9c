"""The command `admm-exp`: Hydra's only home."""

from admm_exp.app.main import main

__all__ = ["main"]
