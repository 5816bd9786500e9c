"""Many runs, without Hydra: their job files, what is seen of them, the search, the tables."""
