"""Ways to a small network, all with the same cut and the same number of epochs."""
