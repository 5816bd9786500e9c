"""Epochs: training, evaluation, learning rates, checkpoints, seeds."""
