"""How many channels every group keeps: by a sparsity, a file or a budget."""
