"""Channel groups and finer units, the proof that they can be cut, and the cut."""
