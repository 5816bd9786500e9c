"""From a network to channel groups, and from a support to a smaller network."""
