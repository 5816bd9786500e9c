"""The benchmark: what every stage costs on this machine, beside its alternatives and its limit."""
