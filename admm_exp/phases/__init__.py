"""The phases of an experiment: dense, admm, prune, finetune."""
