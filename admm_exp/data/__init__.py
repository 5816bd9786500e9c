"""Data sets: what they hold, how they are split, batched and augmented."""
