"""Networks as people bring them: how they are called, compared, copied and checked."""
