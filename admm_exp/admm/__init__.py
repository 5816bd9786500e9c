"""The ADMM mathematics on plain tensors; the names W, Z and U are those of Boyd et al. 2011."""
