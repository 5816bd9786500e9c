"""The page that compares runs: one HTML file that needs nothing else."""
