"""Run one experiment: `python -m admm_exp` is `admm-exp`."""

from admm_exp.app import main

if __name__ == "__main__":
    main()
