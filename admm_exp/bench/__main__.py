"""`python -m admm_exp.bench`."""

from admm_exp.bench.command import main

main()
