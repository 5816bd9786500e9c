"""Networks that torchvision lacks, and torchvision's classifiers by name."""
