"""Sweeper and launcher of admm_exp."""
