"""Parts of a user: data, networks, a loss and a metric."""
