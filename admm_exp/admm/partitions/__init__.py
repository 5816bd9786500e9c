"""Granularities below the channel, one a file."""
