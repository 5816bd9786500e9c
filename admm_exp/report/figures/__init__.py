"""Figures for people, drawn from plain numbers; matplotlib's only home."""
