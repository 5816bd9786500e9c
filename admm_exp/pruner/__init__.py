"""ADMMPruner, the facade for networks and training functions of a script."""
