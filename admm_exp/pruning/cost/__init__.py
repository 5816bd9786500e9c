"""Parameters, multiply-adds and time of a network."""
